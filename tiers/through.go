package tiers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback/facts"
)

// A rule `write = "back"` is not honoured for every write. through is why one goes to the
// upstream: a label of a metric, and the same word in the log, the status and the console.
type through string

// The reasons besides those of facts.Reason.
const (
	throughNone       through = ""
	throughUnanswered through = "unanswered" // the upstream did not say what the bucket is like
	throughChanging   through = "changing"   // the bucket is being changed through this gateway
	throughFull       through = "full"       // a limit of the journal is reached
	throughJournal    through = "journal"    // the journal has failed, or is damaged
	throughRequest    through = "request"    // it asks for more than to be stored or deleted
	throughKind       through = "kind"       // an unusual write of a kind that the upstream has not accepted yet, or refuses
)

// because is a reason of the facts.
func because(r facts.Reason) through { return through(r.String()) }

// throughCounts has a counter for each reason: the label is bounded.
var throughCounts = func() map[through]*metrics.Counter {
	all := map[through]*metrics.Counter{}
	add := func(t through) {
		all[t] = metrics.NewCounter(fmt.Sprintf(`akigw_tiers_back_through_total{reason=%q}`, string(t)))
	}
	for r := facts.Absent; r <= facts.Unreadable; r++ {
		add(because(r))
	}
	for _, t := range []through{throughUnanswered, throughChanging, throughFull, throughJournal, throughRequest, throughKind} {
		add(t)
	}
	return all
}()

// meanings say what the reasons mean, to an operator.
var meanings = map[through]string{
	because(facts.Absent):     "the bucket is not there",
	because(facts.Forbidden):  "the upstream's credentials may not ask about the bucket (GetBucketVersioning): they need s3:GetBucketVersioning",
	because(facts.Versioned):  "the bucket keeps versions, whose ids only the upstream can give",
	because(facts.Encrypted):  "the bucket is encrypted with KMS keys, so ETags cannot be promised",
	because(facts.OtherETags): "the upstream gave an object of the bucket another ETag than its MD5",
	because(facts.Unreadable): "the upstream's answer to GetBucketVersioning was not understood",
	throughUnanswered:         "the upstream did not say whether the bucket is versioned",
	throughChanging:           "the bucket is being changed",
	throughFull:               "a limit of the journal is reached (write_back)",
	throughJournal:            "the journal takes no writes",
	throughRequest:            "the write asks for more than to be stored",
	throughKind:               "the upstream has not accepted an unusual write of this kind yet, or has refused one",
}

// Remedy is what an operator can do about a bucket whose pending writes are held back.
func Remedy(bucket string, why facts.Reason) string {
	resume := "akigw journal resume " + bucket
	switch why {
	case facts.Absent:
		return "make the bucket again; or " + resume + ": then its pending writes become dead letters, which can be exported"
	case facts.Versioned:
		return resume + " uploads them: each becomes a version"
	case facts.Encrypted:
		return "take the default encryption with KMS keys off the bucket; or " + resume + ": then the promised ETags are translated"
	}
	return ""
}

// throughLog remembers what was logged: one line for each bucket and reason.
type throughLog struct {
	mu   sync.Mutex
	seen map[throughBucket]bool // guarded by mu
}

type throughBucket struct {
	bucket string
	why    through
}

// first reports whether it is asked about this for the first time.
func (l *throughLog) first(bucket string, why through) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	this := throughBucket{bucket, why}
	if l.seen[this] {
		return false
	}
	if l.seen == nil || len(l.seen) >= maxInquiries { // then some are logged once more
		l.seen = map[throughBucket]bool{}
	}
	l.seen[this] = true
	return true
}

// Through counts a write that a rule wants written back, and that asks for more than the
// journal can promise. Others are counted where they are decided.
func (s *Store) Through(key akigw.Key) {
	if s.back != nil && s.settings(key).Back {
		throughCounts[throughRequest].Inc()
	}
}

// goesThrough takes down why a write that a rule wants written back is not. kinds are those
// that the upstream does not accept yet.
func (s *Store) goesThrough(bucket string, why through, kinds ...string) {
	backWrites["through"].Inc()
	throughCounts[why].Inc()
	if s.back.logged.first(bucket, why) {
		level := slog.LevelWarn
		if why == throughKind { // it is the client's doing, and ends with the first that is accepted
			level = slog.LevelInfo
		}
		s.log.Log(context.Background(), level, `a rule says write = "back", and writes to the bucket go through to the upstream`, "bucket", bucket, "reason", string(why), "meaning", meanings[why], "kinds", kinds)
	}
}

// WriteBackNote says of one bucket what keeps writes from being acknowledged by the journal, or
// pending ones from being uploaded.
type WriteBackNote struct {
	Bucket string `json:"bucket"`
	// Reason is why all new writes go through, "" if they do not: absent, forbidden, versioned,
	// encrypted, etags or unreadable.
	Reason  string `json:"reason,omitempty"`
	Meaning string `json:"meaning,omitempty"`
	// Paused says that pending writes are not uploaded, for Reason, until Remedy.
	Paused bool   `json:"paused,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	// RefusedKinds are unusual kinds of writes that the upstream refused: they go through.
	RefusedKinds []string `json:"refused_kinds,omitempty"`
}

// NoteOf makes the note of a bucket from what is known of it, nil if there is nothing to say.
func NoteOf(r *facts.Record) *WriteBackNote {
	n := &WriteBackNote{Bucket: r.Bucket}
	if why := r.Why(); !r.Asked.IsZero() || why == facts.OtherETags {
		n.Reason, n.Meaning = why.String(), meanings[because(why)]
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		if !r.Kinds[kind] {
			n.RefusedKinds = append(n.RefusedKinds, kind)
		}
	}
	if n.Reason == "" && n.RefusedKinds == nil {
		return nil
	}
	return n
}

// maxNotes bounds a status.
const maxNotes = 100

// WriteBackNotes are the buckets whose rule `write = "back"` is not honoured, at most 100: those
// whose pending writes are not uploaded first.
func (s *Store) WriteBackNotes() []WriteBackNote {
	if s.back == nil {
		return nil
	}
	var paused, rest []WriteBackNote
	for _, r := range s.back.buckets.book.Select(func(r *facts.Record) bool { return r.Why() != facts.None || len(r.Kinds) > 0 }) {
		n := s.note(&r)
		switch {
		case n == nil || r.ID != s.back.buckets.id(r.Bucket) || !s.WritesBack(r.Bucket): // or of an upstream that the bucket has no more
		case n.Paused:
			paused = append(paused, *n)
		default:
			rest = append(rest, *n)
		}
	}
	all := append(paused, rest...)
	return all[:min(len(all), maxNotes)]
}

// note is NoteOf with what is going on.
func (s *Store) note(r *facts.Record) *WriteBackNote {
	n := NoteOf(r)
	if why := s.held(r.Bucket); why != facts.None {
		if n == nil {
			n = &WriteBackNote{Bucket: r.Bucket}
		}
		n.Reason, n.Meaning, n.Paused, n.Remedy = why.String(), meanings[because(why)], true, Remedy(r.Bucket, why)
	}
	return n
}

// held is why pending writes of a bucket are held back, None if there are none, or they are
// uploaded.
func (s *Store) held(bucket string) facts.Reason {
	why := s.back.buckets.pausedBy(bucket)
	if why == facts.None {
		return facts.None
	}
	if pending, _ := s.Overlay(bucket, "", "", 1); len(pending) == 0 {
		return facts.None
	}
	return why
}

// PausedBuckets is the number of buckets whose pending writes are held back until an operator
// has decided.
func (s *Store) PausedBuckets() (n int) {
	if s.back == nil {
		return 0
	}
	for _, bucket := range s.back.buckets.paused() {
		if s.held(bucket) != facts.None {
			n++
		}
	}
	return n
}

// ExplainWrite says why a rule `write = "back"` is not honoured for a key at present, as far as
// that is known without asking; "" if it is, or no rule says so.
func (s *Store) ExplainWrite(key akigw.Key) string {
	if s.back == nil || !s.settings(key).Back {
		return ""
	}
	if st := s.back.journal.Stats(); st.Problem != nil {
		return meanings[throughJournal] + ": " + st.Problem.Error()
	}
	record := facts.Record{ID: s.back.buckets.id(key.Bucket)}
	record.Fact = s.back.buckets.book.Get(record.ID)
	if n := s.note(&record); n != nil && n.Reason != "" {
		text := n.Meaning
		if n.Paused {
			text += "; its pending writes are not uploaded: " + n.Remedy
		}
		return text
	}
	if missing := unaccepted(&record.Fact, KindsOf(key.Name, nil)); len(missing) > 0 {
		return meanings[throughKind] + ": " + strings.Join(missing, ", ")
	}
	return ""
}

// ResumeFlush has the pending writes of a bucket uploaded in spite of what was found out about
// it. forget drops what else is known of the bucket, too: which unusual writes it refused, and
// that it gave another ETag than was promised.
func (s *Store) ResumeFlush(bucket string, forget bool) error {
	if s.back == nil {
		return ErrNotPaused
	}
	if forget {
		s.back.buckets.book.Reset(s.back.buckets.id(bucket))
	}
	if !s.back.buckets.resume(bucket) && !forget {
		return ErrNotPaused
	}
	return nil
}

// ErrNotPaused: the pending writes of a bucket are not held back.
var ErrNotPaused = errNotPaused{}

type errNotPaused struct{}

func (errNotPaused) Error() string {
	return "pending writes of this bucket are not held back: see akigw status"
}

// KindsOf are the unusual kinds of a write to a key: whether they are accepted depends on the
// upstream. header has canonical names and may be nil, for a deletion. There are few kinds, so
// that what was learned of one write holds for others.
func KindsOf(name string, header http.Header) (kinds []string) {
	kinds = keyKinds(name)
	if class := header.Get("X-Amz-Storage-Class"); class != "" && class != "STANDARD" {
		kinds = append(kinds, "storage-class "+clipKind(class))
	}
	if header.Get("X-Amz-Website-Redirect-Location") != "" {
		kinds = append(kinds, "website-redirect")
	}
	for name := range header {
		if sum, ok := strings.CutPrefix(name, "X-Amz-Checksum-"); ok && !usualSums[sum] {
			kinds = append(kinds, "checksum "+clipKind(sum))
		}
	}
	if sum := header.Get("X-Amz-Checksum-Algorithm"); sum != "" && !usualAlgorithms[sum] {
		kinds = append(kinds, "checksum "+clipKind(sum))
	}
	return kinds
}

// usualSums end the checksum headers that S3 has had for years, usualAlgorithms are the values
// of x-amz-checksum-algorithm.
var (
	usualSums       = map[string]bool{"Crc32": true, "Crc32c": true, "Crc64nvme": true, "Sha1": true, "Sha256": true, "Algorithm": true, "Type": true, "Mode": true}
	usualAlgorithms = map[string]bool{"CRC32": true, "CRC32C": true, "CRC64NVME": true, "SHA1": true, "SHA256": true}
)

// clipKind bounds what a client says.
func clipKind(s string) string { return strings.ToUpper(s[:min(len(s), 32)]) }

// maxSegment is the longest segment of a key that an upstream on a file system can store.
const maxSegment = 255

// keyKinds are the unusual kinds of a key: some upstreams refuse them, or store them under
// another name. It goes over the bytes once; most keys have no kind, and allocate nothing.
func keyKinds(name string) (kinds []string) {
	begun := 0 // where the present segment began
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			switch c := name[i]; {
			case c == '\\':
				kinds = addKind(kinds, "key backslash")
			case c < ' ' || c == 0x7f:
				kinds = addKind(kinds, "key control-character")
			}
			continue
		}
		switch segment := name[begun:i]; {
		case segment == "" && i == 0 && i < len(name):
			kinds = addKind(kinds, "key leading-slash")
		case segment == "" && i < len(name):
			kinds = addKind(kinds, "key empty-segment")
		case segment == "." || segment == "..":
			kinds = addKind(kinds, "key dot-segment")
		case len(segment) > maxSegment:
			kinds = addKind(kinds, "key long-segment")
		}
		begun = i + 1
	}
	return kinds
}

func addKind(kinds []string, kind string) []string {
	if slices.Contains(kinds, kind) {
		return kinds
	}
	return append(kinds, kind)
}

// unaccepted are those of some kinds that the upstream is not known to accept.
func unaccepted(f *facts.Fact, kinds []string) (missing []string) {
	for _, kind := range kinds {
		if !f.Kinds[kind] {
			missing = append(missing, kind)
		}
	}
	return missing
}

// Accepted says that the upstream accepted a write that went through: the next one of its kinds
// can be acknowledged by the journal.
func (s *Store) Accepted(key akigw.Key, header http.Header) {
	if s.back == nil || !s.settings(key).Back {
		return
	}
	for _, kind := range KindsOf(key.Name, header) {
		s.back.buckets.book.SetKind(s.back.buckets.id(key.Bucket), kind, true)
	}
}

// otherRefusals are codes of errors that have nothing to do with the kind of a write.
var otherRefusals = map[string]bool{
	"NoSuchBucket": true, "NoSuchUpload": true, "NoSuchKey": true, "EntityTooLarge": true, "EntityTooSmall": true, "InvalidPart": true, "InvalidPartOrder": true,
	"QuotaExceeded": true, "XMinioStorageFull": true, "InvalidBucketState": true, "PreconditionFailed": true,
}

// refusedKind learns from a flush that was refused for good: writes of its kind go through from
// then on.
func (s *Store) refusedKind(key akigw.Key, header http.Header, code string) {
	if otherRefusals[code] {
		return
	}
	kinds := KindsOf(key.Name, header)
	if code == "InvalidStorageClass" {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return !strings.HasPrefix(kind, "storage-class ") })
	}
	for _, kind := range kinds {
		s.back.buckets.book.SetKind(s.back.buckets.id(key.Bucket), kind, false)
		s.log.Warn("the upstream refused an acknowledged write of an unusual kind; writes of that kind go through from now on", "bucket", key.Bucket, "kind", kind, "code", code)
	}
}
