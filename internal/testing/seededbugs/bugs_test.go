// Package seededbugs plants bugs in copies of the source, one at a time, and checks that the tests find
// each of them. A bug that they miss shows a gap in the tests.
package seededbugs

import (
	"bytes"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// edit replaces a text that occurs exactly once in a file.
type edit struct{ file, old, new string }

// bug is one of the 28, by its number in the test plan.
type bug struct {
	number int
	name   string
	edits  []edit
	// The tests that must find it.
	pkg, run string
	quick    bool // it is among those of the quick set
}

const (
	walFile     = "journal/wal.go"
	stateFile   = "journal/state.go"
	verifyFile  = "sigv4/verify.go"
	catalogFile = "tiers/catalog.go"
)

// one is a single edit.
func one(file, old, new string) []edit { return []edit{{file, old, new}} }

var bugs = []bug{
	{1, "acknowledged before the journal is synced", one(walFile, "		err = file.Sync()\n	}\n	failpoint.Here(\"journal.afterSync\")", "	}\n	failpoint.Here(\"journal.afterSync\")"), "journal", "TestT3_", true},
	{2, "acknowledged before the body is synced", one("journal/internal/spool/draft.go", "		err = d.file.Sync()\n", ""), "journal", "TestT3_", false},
	{3, "no directory sync when a segment is begun", one(walFile, "		err = spool.Unsynced(w.fs.SyncDir(filepath.Join(w.dir, segmentDir)))\n	}\n	failpoint.Here(\"rotate.afterDirSync\")", "	}\n	failpoint.Here(\"rotate.afterDirSync\")"), "journal", "TestT3_", true},
	{4, "the error of a sync is ignored", one(walFile, "		err = file.Sync()\n	}\n	failpoint.Here(\"journal.afterSync\")", "		_ = file.Sync()\n	}\n	failpoint.Here(\"journal.afterSync\")"), "journal", "TestT9_", false},
	{5, "a sync is tried again after EIO", one(walFile, "		err = file.Sync()\n	}\n	failpoint.Here(\"journal.afterSync\")", "		if err = file.Sync(); err != nil {\n			err = file.Sync()\n		}\n	}\n	failpoint.Here(\"journal.afterSync\")"), "journal", "TestT9_", false},
	{6, "damage in the middle of the log is cut off", one("journal/recover.go", "			case h.from < durable:", "			case false:"), "journal", "TestTornTailAndMiddleDamage|TestT10_", false},
	{7, "values of the warm tier are not checked", []edit{{"tiers/warm/database.go", "if sum != binary.BigEndian.Uint32(stored) {", "if false {"}, {"tiers/warm/database.go", "if checksum(key, stored[4:]) != binary.BigEndian.Uint32(stored) {", "if false {"}}, "tiers/warm", "TestBitFlipInTheCatalog", true},
	{8, "no generation fence", one("tiers/fence.go", "return k == nil || generation > k.floor", "return true || k == nil"), "tiers", "TestEventDuringAFill|TestFillRacesPut|TestAbsenceIsFenced|TestReadersDuringOverwrites|TestReadsDuringAWrite", true},
	{9, "the fence is looked at before the fetch only", []edit{
		{catalogFile, "	if !c.fence.alive(e.Key, e.Generation) {\n		return false\n	}\n	if e.body", "	if e.body"},
		{catalogFile, "	if c.fence.alive(e.Key, e.Generation) {\n		return true\n	}\n", "	if true {\n		return true\n	}\n"},
		{catalogFile, "	if !c.fence.alive(e.Key, e.Generation) {\n		c.dropEntry(e.Key)\n	}\n", ""},
	}, "tiers", "TestEventDuringAFill|TestFillRacesPut|TestAbsenceIsFenced|TestReadersDuringOverwrites|TestReadsDuringAWrite", false},
	{10, "a 5xx is remembered as an absence", one("tiers/absence.go", "clean := answer.Status == http.StatusNotFound && (head || bytes.Contains(answer.Body, []byte(\"<Code>NoSuchKey</Code>\")))", "clean := answer.Status >= http.StatusBadRequest && (head || !bytes.Contains(answer.Body, []byte(\"<Code>Other</Code>\")))"), "tiers", "TestFailureIsNotRemembered|TestAbsenceIsFenced", false},
	{11, "a short body is accepted", one("tiers/receive.go", "if _, err := io.ReadFull(body, b.data); err != nil {", "if _, err := io.ReadFull(body, b.data); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {"), "tiers", "TestBodiesBreakOffWhileParallel|TestShortBodyIsNotCachedAndIsResumed", true},
	// The later verification would detect this bug, so it is removed as well.
	{12, "the error document in a 200 is not looked at", []edit{{"uploadpool/remote.go", "if status < 300 && code == \"\" {", "if status < 300 {"}, {"uploadpool/upload.go", "	if !there {\n		u.noteProof(e, r.proof, false)\n		return result{err: errOther, unknown: true}\n	}\n", "	_ = there\n"}}, "uploadpool", "TestSuccessWithErrorBody|TestCompleteTimesOut", false},
	{13, "done before it was verified", one("uploadpool/upload.go", "if r = u.verify(ctx, e, r); !whole {", "if !whole {"), "uploadpool", "TestCompleteTimesOut|TestPartsGetThrough|TestUnknownOutcome|TestSuccessWithErrorBody|TestBodiesAreSentAgainWhole|TestRefused|TestDeadLetter|TestDamagedBody|TestSlowDown", false},
	{14, "a deletion is not in the journal", one("writeback/accept.go", "return true, w.acceptor.acknowledged(w.journal.Delete(ctx, keys, now()))", "return true, nil"), "gateway", "TestT2_", true},
	{15, "two flushes of a key at a time", one(stateFile, "if slices.ContainsFunc(items, func(it *item) bool { return it.leased }) {", "if slices.ContainsFunc(items, func(it *item) bool { return false }) {"), "uploadpool", "TestOrderOfAKey", false},
	{16, "a write that was replaced comes after its successor", []edit{
		{stateFile, "if it.entry.ID <= entry {", "if it.entry.ID == entry {"},
		{stateFile, "if !older.leased { // it is no longer needed", "if false {"},
		{stateFile, "if last := s.last(e.Key); last != nil && last != it {", "if last := s.last(e.Key); false {"},
	}, "gateway", "TestT2_|TestT5_", false},
	{17, "bodies of what is pending are removed", one("journal/recover_spool.go", "if _, ok := wanted[n]; err == nil && (ok || damaged) {", "if _, ok := wanted[n]; ok && damaged {"), "journal", "TestAcknowledgedIsThereAfterRestart|TestT3_", false},
	{18, "a fill runs under its first reader's context", one("tiers/fetcher.go", "Context: ft.tasks.ctx, Flow: cold.FlowOf(from)", "Context: from, Flow: cold.FlowOf(from)"), "tiers", "TestValidationOutlivesItsReader|TestLeaderLeaves", true},
	{19, "with a trailer the seed signature is not verified", one(verifyFile, "if !key.signedRequest(r, path, query, cred, v.Region, declared) || !known {", "if !key.signedRequest(r, path, query, cred, v.Region, declared) && declared != streamingTrailer && declared != unsignedTrailer || !known {"), "gateway", "TestT7_", false},
	{20, "a credential in the query is not verified", one(verifyFile, "	now := v.now()\n	if err := cred.checkTime(now, query); err != nil {", "	if cred.place == Query {\n		payload, err := anonymousPayload(r)\n		return Identity{accessKey: cred.accessKey, place: cred.place, verified: true}, payload, err\n	}\n	now := v.now()\n	if err := cred.checkTime(now, query); err != nil {"), "gateway", "TestT7_", false},
	{21, "unsigned x-amz- headers are accepted", one("sigv4/signedheaders.go", "return c.place == Header || name != \"X-Amz-Content-Sha256\" || values[0] != unsignedPayload", "return false"), "gateway", "TestT7_", false},
	{22, "a signature is compared with ==", one("sigv4/chunks.go", "if !hmac.Equal(hex.AppendEncode(nil, want[:]), []byte(signature)) {", "if got := hex.EncodeToString(want[:]); !hmac.Equal(nil, nil) || got != signature {"), "gateway", "TestConstantTime", false},
	{23, "HEAD answers from a stale catalog", one("tiers/source.go", "	e, outcome, err := s.validator.current(ctx, key, settings, conditions)\n	if e == nil && err == nil {\n		err = s.absent(key, settings, conditions, true)", "	var err error\n	e, outcome := s.lookup(key)\n	if e == nil && err == nil {\n		err = s.absent(key, settings, conditions, true)"), "gateway", "TestT2_", true},
	{24, "the skew of a request's time is ignored", one("sigv4/times.go", "if skew := now.Sub(t); skew > maxSkew || skew < -maxSkew {", "if skew := now.Sub(t); false && skew > maxSkew {"), "sigv4", "TestClock", false},
	{25, "the first directory of the journal overwrites the second at a start, without looking", []edit{{"journal/reconcile.go", "	var sides [2]*side\n	for i := range sides {\n", "	if err := m.overwriteSecond(); err != nil {\n		return err\n	}\n	var sides [2]*side\n	for i := range sides {\n"}, {"journal/reconcile_segments.go", "// replacement is a segment", overwriteSecond + "// replacement is a segment"}}, "journal", "TestT10_SecondDirectory_Damage|TestT10_SecondDirectory_Files", true},
	{26, "a flushed write is not held until its record is durable", one("journal/journal.go", "	return j.committer.enqueue(&writing{ops: []*op{s.record(e, j.config.MaxDates > 0)}, then: then, patient: true})", "	j.spool.Discard(j.table.update(func(st *state) { st.applyDone(e.Key, e.ID) }))\n	return j.committer.enqueue(&writing{ops: []*op{s.record(e, j.config.MaxDates > 0)}, then: then, patient: true})"), "journal", "TestReleaseIsDurableBeforeTheNextWriter|TestPatientRecords", false},
	{27, "memory of a block is used again while a slow reader sends it", one("tiers/blocks.go", "v, ok := c.hot.Get(key); ok && v.block.hold() {", "v, ok := c.hot.Get(key); ok {"), "tiers", "TestReadersOfMemoryThatIsUsedAgain", false},
	{28, "blocks of two bodies of a part are mixed", one("tiers/uploads.go", "n < at && p.sums[n] == sum)", "n < at)"), "tiers", "TestUploadedParts|TestPartsInParallel", false},
}

// overwriteSecond is the method of a start that does not compare both directories.
const overwriteSecond = `func (m *mirror) overwriteSecond() error {
	for _, sub := range []string{segmentDir, spoolDir} {
		dir := filepath.Join(m.dirs[0], sub)
		names, _ := m.FS.List(dir)
		for _, name := range names {
			raw, err := vfs.ReadFile(m.FS, filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if err := writeFile(m.FS, m.twin(filepath.Join(dir, name)), raw); err != nil {
				return err
			}
		}
		second, _ := m.FS.List(m.twin(dir))
		for _, name := range second {
			if !slices.Contains(names, name) {
				_ = m.FS.Remove(m.twin(filepath.Join(dir, name)))
			}
		}
	}
	return nil
}

`

// finding describes how a bug was found.
type finding struct {
	Bug    int    `json:"bug"`
	Name   string `json:"name"`
	Test   string `json:"test"`
	Trials int    `json:"trials"`
	Of     string `json:"of"` // unit of the trials
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (Test[A-Za-z0-9_]+)`)

// counted matches the messages of tests with many trials, which give the number of the first failed
// trial, counted from 0. All other tests have one trial: a scenario.
var counted = []struct {
	of   string
	said *regexp.Regexp
	zero int
}{
	{"crash clone", regexp.MustCompile(`after (\d+) trials`), 0},
	{"operation", regexp.MustCompile(`at operation (\d+),`), 1},
	{"history", regexp.MustCompile(`history (\d+) of `), 1},
	{"call of the file system", regexp.MustCompile(`call (\d+) \(`), 0},
	{"damage", regexp.MustCompile(`seed \d+/(\d+)`), 1},
}

// TestT15_SeededBugs: each bug is found. AKIGW_BUG=7 tests only that one.
func TestT15_SeededBugs(t *testing.T) {
	p := testkit.Prove(t, "T15")
	p.NotSmall()
	var todo []bug
	for _, b := range bugs {
		if only := os.Getenv("AKIGW_BUG"); only != "" && only != strconv.Itoa(b.number) {
			continue
		}
		if b.quick || p.Long() {
			todo = append(todo, b)
		}
	}
	var mu sync.Mutex
	var found []finding
	testkit.Share(t, 2, len(todo), func(t *testing.T, next iter.Seq[int]) {
		tree := copyTree(t)
		for n := range next {
			if f, ok := find(t, tree, todo[n]); ok {
				mu.Lock()
				found = append(found, f)
				mu.Unlock()
			}
		}
	})
	p.Figure("bugs", len(todo))
	p.Figure("found", len(found))
	p.Figure("by", found)
}

// find runs the tests against a tree with a bug.
func find(t *testing.T, tree string, b bug) (finding, bool) {
	undo := map[string][]byte{}
	defer func() {
		for path, source := range undo {
			if err := os.WriteFile(path, source, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}()
	for _, e := range b.edits {
		path := filepath.Join(tree, e.file)
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(source, []byte(e.old)); n != 1 {
			t.Errorf("bug %d: in %s, %d occurrences of the text to replace: %s", b.number, e.file, n, e.old)
			return finding{}, false
		}
		if undo[path] == nil {
			undo[path] = source
		}
		if err := os.WriteFile(path, bytes.Replace(source, []byte(e.old), []byte(e.new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-trimpath", "-count=1", "-failfast", "-vet=off", "-timeout=120s", "-run", b.run, "./"+b.pkg)
	cmd.Dir = tree
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "AKIGW_") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	out, err := cmd.CombinedOutput()
	failed := failedTest.FindSubmatch(out)
	if err == nil || failed == nil {
		t.Errorf("bug %d, %s, was not found by %s of %s: %v\n%s", b.number, b.name, b.run, b.pkg, err, tail(out))
		return finding{}, false
	}
	f := finding{Bug: b.number, Name: b.name, Test: b.pkg + " " + string(failed[1]), Trials: 1, Of: "scenario"}
	for _, c := range counted {
		if m := c.said.FindSubmatch(out); m != nil {
			n, err := strconv.Atoi(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			f.Trials, f.Of = n+c.zero, c.of
			break
		}
	}
	t.Logf("bug %d, %s: %s; trials: %d, each one %s", f.Bug, f.Name, f.Test, f.Trials, f.Of)
	return f, true
}

func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }

// root is the module's directory, relative to this package.
const root = "../../.."

// copyTree copies the module's sources.
func copyTree(t *testing.T) string {
	to, from := testkit.MemoryDir(t), root
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".git" || name == "e2e" || name == "data" || name == "bin" || name == "results" {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), source, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestEditsApply: the text that each bug replaces occurs exactly once.
func TestEditsApply(t *testing.T) {
	for _, b := range bugs {
		for _, e := range b.edits {
			source, err := os.ReadFile(filepath.Join(root, e.file))
			if n := bytes.Count(source, []byte(e.old)); err != nil || n != 1 {
				t.Errorf("bug %d: in %s, %d occurrences of the text to replace: %s, %v", b.number, e.file, n, e.old, err)
			}
		}
	}
	if len(bugs) != 28 {
		t.Errorf("%d bugs", len(bugs))
	}
}
