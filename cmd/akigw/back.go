package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/writeback"
	"github.com/akidb/akigw/writeback/buckets"
)

// remote are the flags of commands that ask a running gateway.
type remote struct {
	common
	Admin     string `help:"Address of the admin listener (default: the configured one)." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	AccessKey string `help:"Admin access key (default: one from the data directory)." env:"AKIGW_ADMIN_ACCESS_KEY"`
	SecretKey string `help:"Its secret." env:"AKIGW_ADMIN_SECRET_KEY"`
	JSON      bool   `name:"json" help:"Print JSON."`
}

// ask sends a request to the admin listener and returns the body of a success. What
// changes something, or brings data, needs an admin key.
func (r *remote) ask(method, path string, query url.Values) (io.ReadCloser, error) {
	return r.send(method, path, query, nil)
}

// send is ask with a body.
func (r *remote) send(method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	listener, err := r.reach(method != http.MethodGet)
	if err != nil {
		return nil, err
	}
	return listener.send(context.Background(), method, path, query, body)
}

// reach is the admin listener of the gateway that is meant; private says that a key is needed
// in any case.
func (r *remote) reach(private bool) (*adminListener, error) {
	c, err := r.load(nil)
	if err != nil {
		return nil, err
	}
	return r.listener(c, private || c.Admin.KeysOnly)
}

// load reads the configuration of the gateway that is meant. settings, by key, count more than
// the file, if they are not empty.
func (r *remote) load(settings map[string]string) (*config, error) {
	flags := map[string]string{"data": r.Data, "admin_listen": r.Admin}
	maps.Copy(flags, settings)
	maps.DeleteFunc(flags, func(_, value string) bool { return value == "" })
	return load(r.Config, os.Environ(), flags)
}

// listener is the gateway's admin listener; with a key if one is given, or needed.
func (r *remote) listener(c *config, needed bool) (*adminListener, error) {
	l := &adminListener{c.Admin.Listen, r.AccessKey, r.SecretKey}
	if l.access == "" && needed {
		var err error
		if l.access, l.secret, err = r.adminKey(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// adminListener is where a running gateway is asked, and by whom.
type adminListener struct{ address, access, secret string }

// send sends a request and returns the body of a success.
func (l *adminListener) send(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.address+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	if l.access != "" {
		req.SetBasicAuth(l.access, l.secret)
	}
	done := busy("the gateway works on it")
	resp, err := http.DefaultClient.Do(req)
	done()
	if err != nil {
		return nil, fmt.Errorf("no gateway answers at %s: %w", l.address, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // a cut error text is still the error
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}

// adminKey finds an admin key in the data directory.
func (r *remote) adminKey() (access, secret string, err error) {
	state, err := r.read()
	if err != nil {
		return "", "", err
	}
	if k := adminKeyIn(state); k != nil {
		return k.AccessKey, k.SecretKey, nil
	}
	return "", "", errors.New("an admin key is needed for this: " + makeAdminKey)
}

// makeAdminKey is how to get an admin key.
const makeAdminKey = "akigw users set operator --admin && akigw keys create --user operator"

// adminKeyIn finds an admin key, nil if there is none.
func adminKeyIn(state *access.State) *access.Key {
	for _, u := range state.Users {
		for i, k := range state.Keys {
			if u.Admin && k.User == u.Name && !k.Temporary() {
				return &state.Keys[i]
			}
		}
	}
	return nil
}

// into asks and decodes the answer.
func (r *remote) into(v any, method, path string, query url.Values) error {
	body, err := r.ask(method, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(v)
}

// statusCommand is "akigw status".
type statusCommand struct{ remote }

// Run prints the status.
func (s *statusCommand) Run() error {
	var st admin.Status
	if err := s.into(&st, http.MethodGet, "/api/v1/status", nil); err != nil {
		return err
	}
	if s.JSON {
		return printJSON(st)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "version\t%s\n", st.Version)
	fmt.Fprintf(table, "hot tier\t%s of %s\n", size.Human(st.HotBytes), size.Human(st.HotQuota))
	fmt.Fprintf(table, "warm tier\t%s of %s\n", size.Human(st.WarmBytes), size.Human(st.WarmQuota))
	fmt.Fprintf(table, "pending writes\t%d (%s), the oldest for %s\n", st.Pending, size.Human(st.Bytes), time.Duration(st.OldestSecs)*time.Second)
	fmt.Fprintf(table, "uploads\t%d under way, %d at the most now, %d wait to be tried again\n", st.Uploading, st.Limit, st.Waiting)
	fmt.Fprintf(table, "rate\t%.1f writes a second (%s/s) in the last minute\n", st.Rate, size.Human(int64(st.ByteRate)))
	for _, bucket := range st.Broken {
		fmt.Fprintf(table, "breaker open\trequests to bucket %q are refused for a while: too many failed\n", bucket)
	}
	for _, name := range st.Suspects {
		fmt.Fprintf(table, "suspect\tthe upstream %q has stopped answering: requests that need it are refused until it answers a probe\n", name)
	}
	fmt.Fprintf(table, "open uploads\t%d\n", st.Uploads)
	fmt.Fprintf(table, "packed\t%d objects in %d packs\n", st.Packed, st.Packs)
	if st.Translated > 0 {
		fmt.Fprintf(table, "ETags\t%d objects have another one upstream than was promised; it is translated\n", st.Translated)
	}
	fmt.Fprintf(table, "dates\t%d objects upstream are shown with the Last-Modified that was promised\n", st.Dates)
	fmt.Fprintf(table, "dead letters\t%d\n", st.Dead)
	for name, why := range st.Paused {
		fmt.Fprintf(table, "paused\tuploads to %s: %s\n", name, why)
	}
	for _, n := range st.WriteBack {
		printNote(table, &n)
	}
	for name, text := range map[string]string{"last failure": st.Failing, "journal": st.Problem, "warm tier": st.WarmProblem} {
		if text != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, text)
		}
	}
	if st.Repaired > 0 {
		fmt.Fprintf(table, "journal's copies\t%d records and bodies were damaged or missing in one directory and are repaired from the other: check that disk\n", st.Repaired)
	}
	if st.LostBodies > 0 {
		fmt.Fprintf(table, "journal's copies\t%d bodies are damaged in both directories: the log names their keys\n", st.LostBodies)
	}
	for _, text := range st.Warnings {
		if !strings.HasPrefix(text, "warm tier: ") && !strings.HasPrefix(text, "journal: ") { // those have lines of their own
			fmt.Fprintf(table, "warning\t%s\n", text)
		}
	}
	for _, file := range st.Damage {
		fmt.Fprintf(table, "damaged\t%s\n", file)
	}
	return table.Flush()
}

// printNote prints what keeps a bucket's writes from being acknowledged by the journal.
func printNote(table io.Writer, n *buckets.Note) {
	switch {
	case n.Paused:
		fmt.Fprintf(table, "not uploaded\tpending writes of bucket %q: %s. %s\n", n.Bucket, n.Meaning, n.Remedy)
	case n.Reason != "":
		fmt.Fprintf(table, "not written back\tbucket %q: %s\n", n.Bucket, n.Meaning)
	}
	if len(n.RefusedKinds) > 0 {
		fmt.Fprintf(table, "not written back\tbucket %q, writes that the upstream refused before: %s\n", n.Bucket, strings.Join(n.RefusedKinds, ", "))
	}
}

// s3URL parses s3://BUCKET and s3://BUCKET/KEY.
func s3URL(text string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(text, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%s names no bucket: s3://BUCKET, s3://BUCKET/PREFIX", text)
	}
	return bucket, key, nil
}

// purgeCommand is "akigw purge".
type purgeCommand struct {
	remote
	objects
}

// Run purges.
func (p *purgeCommand) Run() error {
	query, err := p.query()
	if err != nil {
		return err
	}
	var done struct {
		Purged int `json:"purged"`
	}
	if err := p.into(&done, http.MethodPost, "/api/v1/purge", query); err != nil {
		return err
	}
	if p.JSON {
		return printJSON(done)
	}
	fmt.Printf("forgot what was cached of %d objects\n", done.Purged)
	return nil
}

// deadCommand is "akigw dead-letters".
type deadCommand struct {
	List    deadList    `cmd:"" help:"List them."`
	Show    deadShow    `cmd:"" help:"Print one."`
	Retry   deadRetry   `cmd:"" help:"Try to take them to the upstream once more."`
	Export  deadExport  `cmd:"" help:"Write the body of one to a file."`
	Archive deadArchive `cmd:"" help:"Write the bodies of all of them into one object upstream, a pack; see akigw pack."`
	Drop    deadDrop    `cmd:"" help:"Give them up for good: their keys hold from then on what the upstream has."`
}

func (r *remote) dead() (all []writeback.DeadLetter, err error) {
	err = r.into(&all, http.MethodGet, "/api/v1/dead-letters", nil)
	return all, err
}

type deadList struct{ remote }

// Run lists the dead letters.
func (d *deadList) Run() error {
	all, err := d.dead()
	if err != nil {
		return err
	}
	if d.JSON {
		return printJSON(all)
	}
	return table([]string{"ID", "OBJECT", "SIZE", "SINCE", "REASON"}, all, func(l writeback.DeadLetter) []any {
		what := size.Human(l.Size)
		if l.Deleted {
			what = "deletion"
		}
		return []any{l.ID, fmt.Sprintf("%s/%q", l.Bucket, l.Key), what, l.Since.Format(time.DateTime), l.Reason}
	})
}

type deadShow struct {
	remote
	ID uint64 `arg:"" help:"Number of the dead letter."`
}

// Run prints a dead letter.
func (d *deadShow) Run() error {
	all, err := d.dead()
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.ID == d.ID {
			return printJSON(l)
		}
	}
	return writeback.ErrNoDeadLetter
}

// chosen are dead letters that a command is for.
type chosen struct {
	ID  []uint64 `arg:"" optional:"" help:"Numbers of dead letters."`
	All bool     `help:"All of them."`
}

// each posts to a path for each chosen dead letter.
func (c *chosen) each(r *remote, path, done string) error {
	ids := c.ID
	if c.All == (len(ids) > 0) {
		return errors.New("give the numbers of dead letters, or --all")
	}
	if c.All {
		all, err := r.dead()
		if err != nil {
			return err
		}
		for _, l := range all {
			ids = append(ids, l.ID)
		}
	}
	for _, id := range ids {
		body, err := r.ask(http.MethodPost, path, url.Values{"id": {strconv.FormatUint(id, 10)}})
		if err != nil {
			return fmt.Errorf("dead letter %d: %w", id, err)
		}
		body.Close()
		fmt.Printf("%s dead letter %d\n", done, id)
	}
	return nil
}

type deadRetry struct {
	remote
	chosen
}

// Run has dead letters tried again.
func (d *deadRetry) Run() error {
	return d.each(&d.remote, "/api/v1/dead-letters/retry", "trying again:")
}

type deadDrop struct {
	remote
	chosen
}

// Run gives dead letters up.
func (d *deadDrop) Run() error { return d.each(&d.remote, "/api/v1/dead-letters/drop", "dropped") }

type deadExport struct {
	remote
	ID uint64 `arg:"" help:"Number of the dead letter."`
	To string `arg:"" help:"File to write, which must not exist; - for standard output." placeholder:"FILE"`
}

// Run writes the body of a dead letter.
func (d *deadExport) Run() error {
	body, err := d.ask(http.MethodPost, "/api/v1/dead-letters/export", url.Values{"id": {strconv.FormatUint(d.ID, 10)}})
	if err != nil {
		return err
	}
	defer body.Close()
	return writeNew(d.To, body)
}

// writeNew writes a file that is not there yet, or standard output for "-".
func writeNew(to string, body io.Reader) error {
	if to == "-" {
		_, err := io.Copy(os.Stdout, body)
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	fmt.Printf("wrote %d bytes to %s\n", n, to)
	return nil
}

type deadArchive struct {
	remote
	To string `arg:"" help:"Object to write; one that is there is replaced." placeholder:"s3://BUCKET/KEY"`
}

// Run writes the archive.
func (d *deadArchive) Run() error {
	bucket, key, err := s3URL(d.To)
	if err != nil || key == "" {
		return fmt.Errorf("%s does not name an object: s3://BUCKET/KEY", d.To)
	}
	var done struct{ Archived int }
	if err := d.into(&done, http.MethodPost, "/api/v1/dead-letters/archive", url.Values{"bucket": {bucket}, "key": {key}}); err != nil {
		return err
	}
	fmt.Printf("%d dead letters are in %s; they are kept here as well\n", done.Archived, d.To)
	return nil
}

// packCommand is "akigw pack".
type packCommand struct {
	List packList `cmd:"" help:"List what is in a pack."`
	Get  packGet  `cmd:"" help:"Write one object of a pack to a file."`
}

// packFile is a pack on disk.
type packFile struct {
	File string `arg:"" help:"The pack: one of ours, fetched from the upstream." type:"existingfile"`
}

// open opens the pack and reads its index.
func (p *packFile) open() (f *os.File, objects []pack.Object, err error) {
	if f, err = os.Open(p.File); err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		objects, err = pack.ReadIndex(f, info.Size())
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", p.File, err), f.Close())
	}
	return f, objects, nil
}

type packList struct {
	packFile
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists a pack.
func (p *packList) Run() error {
	f, objects, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if p.JSON {
		return printJSON(objects)
	}
	return table([]string{"OBJECT", "SIZE", "OFFSET", "MODIFIED", "ETAG"}, objects, func(o pack.Object) []any {
		return []any{fmt.Sprintf("%q", o.Name), size.Human(o.Size), o.Offset, o.Modified.Format(time.DateTime), o.ETag}
	})
}

type packGet struct {
	packFile
	Name string `arg:"" help:"Name of the object, as listed."`
	To   string `arg:"" help:"File to write, which must not exist; - for standard output." placeholder:"FILE"`
}

// Run writes an object.
func (p *packGet) Run() error {
	f, objects, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	for _, o := range objects {
		if o.Name == p.Name {
			return writeNew(p.To, io.NewSectionReader(f, o.Offset, o.Size))
		}
	}
	return fmt.Errorf("%s has no object %q: see akigw pack list", p.File, p.Name)
}

// journalCommand is "akigw journal".
type journalCommand struct {
	Accept journalAccept `cmd:"" help:"Go on with a journal that was found damaged. Look at the files in its quarantine first: they are kept."`
	Resume journalResume `cmd:"" help:"Upload the pending writes of a bucket that is versioned, encrypted or gone by now. akigw status says which are held back, and why."`
	Unpack journalUnpack `cmd:"" help:"Make objects of their own of all that is in packs in a bucket: to stop packing (take pack_bytes out of its rules first), or before the gateway is taken away."`
}

type journalAccept struct{ remote }

// Run accepts the damage.
func (j *journalAccept) Run() error {
	body, err := j.ask(http.MethodPost, "/api/v1/journal/accept", nil)
	if err != nil {
		return err
	}
	body.Close()
	fmt.Println("accepted: the journal takes writes again, and what is pending goes upstream")
	return nil
}

type journalResume struct {
	Bucket string `arg:"" help:"Name of the bucket."`
	Forget bool   `help:"Forget all else that is known of the bucket, too: that it gave another ETag than was promised, and which unusual writes it refused."`
	remote
}

// Run resumes the uploads of a bucket.
func (j *journalResume) Run() error {
	query := url.Values{"bucket": {j.Bucket}, "forget": {strconv.FormatBool(j.Forget)}}
	body, err := j.ask(http.MethodPost, "/api/v1/journal/resume", query)
	if err != nil {
		return err
	}
	body.Close()
	fmt.Printf("pending writes of %s are uploaded\n", j.Bucket)
	return nil
}

type journalUnpack struct {
	Bucket string `arg:"" help:"Name of the bucket."`
	remote
}

// Run unpacks a bucket.
func (j *journalUnpack) Run() error {
	body, err := j.ask(http.MethodPost, "/api/v1/journal/unpack?bucket="+url.QueryEscape(j.Bucket), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	var done struct{ Unpacked int }
	if err := json.NewDecoder(body).Decode(&done); err != nil {
		return err
	}
	fmt.Printf("%d objects of %s are out of their packs\n", done.Unpacked, j.Bucket)
	return nil
}

// showDrain tells a person at a terminal how far the drain is.
func showDrain(writes *writeback.WriteBack, w io.Writer, stop <-chan struct{}) {
	f, ok := w.(*os.File)
	if !ok {
		return
	}
	if !terminal(f) {
		return
	}
	for {
		st := writes.Status()
		fmt.Fprintf(w, "\r\x1b[Ktaking acknowledged writes to the upstream: %d left (%s)", st.Pending, size.Human(st.Bytes))
		select {
		case <-stop:
			fmt.Fprintln(w)
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
