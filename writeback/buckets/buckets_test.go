package buckets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback/facts"
)

// inquirer is an upstream that is asked about buckets, together with the Buckets that ask it.
type inquirer struct {
	*Buckets
	asked  atomic.Int64
	ready  atomic.Int64
	logged strings.Builder
	mu     sync.Mutex
	say    func(ctx context.Context) (facts.Reason, error) // guarded by mu
}

// askOf sets up questions about buckets in a synctest bubble. It must be called in the bubble, and
// ends its questions with the test.
func askOf(t *testing.T, say func(ctx context.Context) (facts.Reason, error)) *inquirer {
	a := &inquirer{say: say}
	a.Buckets = New(Options{MaxAge: time.Hour, Ready: func(string) { a.ready.Add(1) }, Log: slog.New(slog.NewTextHandler(&a.logged, nil))})
	a.id = func(bucket string) facts.ID { return facts.ID{Bucket: bucket} }
	a.ask = func(ctx context.Context, _ string) (facts.Reason, error) {
		a.asked.Add(1)
		a.mu.Lock()
		say := a.say
		a.mu.Unlock()
		return say(ctx)
	}
	t.Cleanup(a.Close)
	return a
}

func (a *inquirer) becomes(say func(ctx context.Context) (facts.Reason, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.say = say
}

func says(r facts.Reason) func(context.Context) (facts.Reason, error) {
	return func(context.Context) (facts.Reason, error) { return r, nil }
}

// hangs never answers, like a stopped upstream.
func hangs(ctx context.Context) (facts.Reason, error) {
	<-ctx.Done()
	return facts.None, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, ctx.Err())
}

func refuses(context.Context) (facts.Reason, error) {
	return facts.None, fmt.Errorf("%w: connection refused", akigw.ErrUpstreamUnavailable)
}

// TestOneQuestionAtATime: any number of writes to an unknown bucket cause one question. Each write
// returns when its own context ends; the question ends at its own deadline.
func TestOneQuestionAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, hangs)
		begun := time.Now()
		var work sync.WaitGroup
		for i := range 20 {
			work.Go(func() {
				patience := time.Duration(i+1) * questionTimeout / 10
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := a.Know(ctx, "bucket")
				took := time.Since(begun)
				if took > min(patience, questionTimeout) || !errors.Is(err, akigw.ErrUpstreamUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the writer with %v left after %v: %v", patience, took, err)
				}
			})
		}
		work.Wait()
		if n := a.asked.Load(); n != 1 {
			t.Errorf("%d questions", n)
		}
		now := time.Now()
		if _, err := a.Know(t.Context(), "bucket"); !errors.Is(err, akigw.ErrUpstreamUnavailable) || time.Since(now) > 0 {
			t.Errorf("the next writer: %v after %v", err, time.Since(now))
		}
		time.Sleep(minBackOff + maxBackOff)
		a.becomes(says(facts.None))
		if why, err := a.Know(t.Context(), "bucket"); why != NoCause || err != nil {
			t.Errorf("after the upstream returned: %q, %v", why, err)
		}
	})
}

// TestSlowQuestion: a question gets its answer from an upstream that takes eight seconds for each
// of its two requests.
func TestSlowQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, func(ctx context.Context) (facts.Reason, error) {
			select {
			case <-time.After(16 * time.Second):
				return facts.None, nil
			case <-ctx.Done():
				return facts.None, ctx.Err()
			}
		})
		if why, err := a.Know(t.Context(), "bucket"); why != NoCause || err != nil {
			t.Errorf("%q, %v", why, err)
		}
	})
}

// TestReturnEndsOldQuestions: when the upstream responds again, a question that is stuck on a dead
// connection is abandoned and the next one is asked at once.
func TestReturnEndsOldQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, hangs)
		for range 3 { // so that there is a back-off before the next question
			_, _ = a.Know(t.Context(), "bucket")
			time.Sleep(minBackOff)
		}
		go func() { _, _ = a.Know(t.Context(), "bucket") }()
		synctest.Wait()
		a.becomes(says(facts.None))
		back := time.Now()
		a.Revive(func(string) bool { return true })
		synctest.Wait()
		a.MayFlush("bucket") // asks
		synctest.Wait()
		if wait := a.MayFlush("bucket"); wait != 0 || time.Since(back) > 0 {
			t.Errorf("the flush waits for %v, %v after the return", wait, time.Since(back))
		}
	})
}

// TestDeafQuestion: a question whose transport ignores its context blocks no caller.
func TestDeafQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a := askOf(t, func(context.Context) (facts.Reason, error) {
			<-release
			return facts.None, nil
		})
		for range 3 {
			begun := time.Now()
			if _, err := a.Know(t.Context(), "bucket"); !errors.Is(err, akigw.ErrUpstreamUnavailable) || time.Since(begun) > questionTimeout {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
		close(release)
	})
}

// TestKnownFactsDoNotWait: no write waits while a fact is fresh enough. The fact is refreshed about
// once a minute, and with a silent upstream it stays valid until it is too old.
func TestKnownFactsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.None))
		write := func() (Cause, error, time.Duration) {
			begun := time.Now()
			why, err := a.Know(t.Context(), "bucket")
			return why, err, time.Since(begun)
		}
		for range 100 { // ten minutes with a write every six seconds
			if why, err, took := write(); why != NoCause || err != nil || took > 0 {
				t.Fatalf("%q %v after %v", why, err, took)
			}
			time.Sleep(6 * time.Second)
		}
		if n := a.asked.Load(); n < 8 || n > 11 {
			t.Errorf("%d questions in ten minutes", n)
		}
		a.becomes(hangs)
		last := a.book.Get(a.id("bucket")).Asked
		for time.Since(last) < time.Hour {
			if why, err, took := write(); why != NoCause || err != nil || took > 0 {
				t.Fatalf("the upstream has hung for %v: %q %v after %v", time.Since(last), why, err, took)
			}
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Minute)
		if _, err, _ := write(); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("the fact is too old: %v", err)
		}
	})
}

// TestChangeOvertakesAnswer: an answer to a question that was asked before a bucket was changed is
// not stored after the change, and the question is repeated. During the change writes are written
// through.
func TestChangeOvertakesAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		a := askOf(t, func(context.Context) (facts.Reason, error) {
			<-slow
			return facts.None, nil
		})
		var got Cause
		var work sync.WaitGroup
		work.Go(func() { got, _ = a.Know(t.Context(), "bucket") })
		synctest.Wait()
		end := a.Change("bucket")
		if why, err := a.Know(t.Context(), "bucket"); why != Changing || err != nil {
			t.Errorf("during the change: %q %v", why, err)
		}
		end(Changed)
		a.becomes(says(facts.Versioned))
		close(slow) // the answer from before the change
		work.Wait()
		if got != because(facts.Versioned) || a.asked.Load() != 2 {
			t.Errorf("%q after %d questions", got, a.asked.Load())
		}
		if f := a.book.Get(a.id("bucket")); f.Reason != facts.Versioned {
			t.Errorf("%+v", f)
		}
	})
}

// TestFailedChangeKeepsFacts: a change that the upstream refused or never received changes nothing:
// writes are still acknowledged while the upstream is silent.
func TestFailedChangeKeepsFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.None))
		if _, err := a.Know(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
		a.becomes(hangs)
		a.Change("bucket")(Unchanged)
		if why, err := a.Know(t.Context(), "bucket"); why != NoCause || err != nil {
			t.Errorf("%q %v", why, err)
		}
		a.Change("bucket")(Removed)
		if why, err := a.Know(t.Context(), "bucket"); why != because(facts.Absent) || err != nil {
			t.Errorf("removed: %q %v", why, err)
		}
	})
}

// TestOtherETagsAreRemembered: once the gateway has promised a wrong ETag for a bucket, neither a
// change of the bucket nor another answer makes it promise ETags again.
func TestOtherETagsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.None))
		a.book.SetOtherETags(a.id("bucket"))
		for range 3 {
			if why, err := a.Know(t.Context(), "bucket"); why != because(facts.OtherETags) || err != nil {
				t.Errorf("%q %v", why, err)
			}
			a.Change("bucket")(Changed)
			a.refresh("bucket", time.Now())
			synctest.Wait()
		}
	})
}

// TestFlushAsksFirst: the first flush of an epoch, and the first after the upstream failed to
// respond, waits for an answer about the bucket. A bucket that has changed is held back until it
// changes back or an operator decides.
func TestFlushAsksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.None))
		a.book.Answer(a.id("bucket"), a.book.Epoch(), facts.None, time.Now()) // from an earlier epoch
		flush := func() bool { return a.MayFlush("bucket") == 0 }
		if flush() {
			t.Error("the first flush did not ask")
		}
		synctest.Wait()
		if !flush() || a.asked.Load() != 1 || a.ready.Load() != 1 {
			t.Errorf("asked %d times, ready %d times", a.asked.Load(), a.ready.Load())
		}
		a.becomes(refuses)
		a.NoResponse("bucket") // an upload got no response
		for range 200 {        // an outage of 20 s
			if flush() {
				t.Fatal("it was flushed during the outage")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := a.asked.Load(); n < 5 || n > 80 {
			t.Errorf("%d questions in 20 s", n)
		}
		a.becomes(says(facts.Versioned))
		for range 30 {
			if flush() {
				t.Fatal("a bucket that is versioned now was flushed")
			}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait() // until the log is written
		if got := a.PausedBy("bucket"); got != facts.Versioned || strings.Count(a.logged.String(), "are not uploaded") != 1 || !strings.Contains(a.logged.String(), "akigw journal resume bucket") {
			t.Errorf("paused by %q: %s", got, a.logged.String())
		}
		before := a.ready.Load()
		if !a.Resume("bucket") || !flush() || a.ready.Load() != before+1 {
			t.Error("it was not resumed")
		}
		a.NoResponse("bucket")
		for range 30 {
			flush()
			time.Sleep(100 * time.Millisecond)
		}
		if !flush() {
			t.Error("the operator is asked again about what they agreed to")
		}
		a.becomes(says(facts.Absent))
		a.NoResponse("bucket")
		for range 30 {
			flush()
			time.Sleep(100 * time.Millisecond)
		}
		if got := a.PausedBy("bucket"); got != facts.Absent {
			t.Errorf("the bucket is gone, and no operator agreed to that: paused by %q", got)
		}
		a.becomes(says(facts.None)) // the bucket was created again
		for end := time.Now().Add(2 * pausedEvery); !flush() && time.Now().Before(end); {
			time.Sleep(time.Second)
		}
		if !flush() || a.PausedBy("bucket") != facts.None {
			t.Error("the bucket exists again but is still held back")
		}
	})
}

// TestAnOutageIsOfAllBuckets: after an upload that got no response, other buckets of the same
// upstream are asked about too, unless they were answered just now.
func TestAnOutageIsOfAllBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.None))
		flush := func(bucket string) bool {
			if a.MayFlush(bucket) == 0 {
				return true
			}
			synctest.Wait()
			return false
		}
		for _, bucket := range []string{"one", "old"} {
			if flush(bucket) || !flush(bucket) {
				t.Errorf("%s was not asked about once", bucket)
			}
		}
		time.Sleep(doubtAfter + time.Second)
		if flush("new") || !flush("new") {
			t.Error("new was not asked about once")
		}
		a.becomes(refuses)
		a.NoResponse("one")
		for bucket, want := range map[string]bool{"one": false, "old": false, "new": true} {
			if got := flush(bucket); got != want {
				t.Errorf("%s may be flushed: %t", bucket, got)
			}
		}
	})
}

// TestALostAnswerIsNoOutage: if another upload succeeds right after one that got no response,
// flushes continue whatever becomes of the question. If it succeeds much later, there was an
// outage.
func TestALostAnswerIsNoOutage(t *testing.T) {
	for after, want := range map[time.Duration]bool{10 * time.Millisecond: true, time.Minute: false} {
		synctest.Test(t, func(t *testing.T) {
			a := askOf(t, says(facts.None))
			a.MayFlush("bucket")
			synctest.Wait()
			a.becomes(hangs)
			a.NoResponse("bucket")
			if a.MayFlush("bucket") == 0 {
				t.Error("the bucket may be flushed after a failure")
			}
			time.Sleep(after)
			a.Recovered("bucket")
			if got := a.MayFlush("bucket") == 0; got != want {
				t.Errorf("after %v: the bucket may be flushed: %t", after, got)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // the success of another upload does not answer a question that was never asked
		a := askOf(t, hangs)
		a.MayFlush("bucket")
		a.Recovered("bucket")
		if a.MayFlush("bucket") == 0 {
			t.Error("the bucket was never asked about, and may be flushed")
		}
	})
}

// TestBucketChangesWhileABodyComes: a write that was accepted before a change is acknowledged after
// it only if the bucket still allows write-back.
func TestBucketChangesWhileABodyComes(t *testing.T) {
	for _, reason := range []facts.Reason{facts.None, facts.Versioned} {
		synctest.Test(t, func(t *testing.T) {
			a := askOf(t, says(facts.None))
			if _, err := a.Know(t.Context(), "bucket"); err != nil {
				t.Fatal(err)
			}
			epoch := a.book.Get(a.id("bucket")).Epoch
			if why, err := a.Still(t.Context(), "bucket", epoch); why != NoCause || err != nil {
				t.Errorf("nothing changed: %q, %v", why, err)
			}
			a.becomes(says(reason))
			end := a.Change("bucket")
			if why, err := a.Still(t.Context(), "bucket", epoch); why != Changing || err != nil {
				t.Errorf("during the change: %q, %v", why, err)
			}
			end(Changed)
			if why, err := a.Still(t.Context(), "bucket", epoch); why != because(reason) || err != nil {
				t.Errorf("%q after the change: %q, %v", reason, why, err)
			}
		})
	}
}

// TestQuestionsBeforeFlushesAreBounded: with pending writes of many buckets, the number of
// concurrent questions is bounded.
func TestQuestionsBeforeFlushesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, hangs)
		for i := range 100 {
			a.MayFlush(fmt.Sprint("bucket-", i))
		}
		synctest.Wait()
		if n := a.asked.Load(); n != maxQuestions {
			t.Errorf("%d questions", n)
		}
	})
}

// TestInquiriesAreBounded: bucket names that clients invent do not take memory forever.
func TestInquiriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.Absent))
		for i := range maxInquiries + 100 {
			if _, err := a.Know(t.Context(), fmt.Sprint("bucket-", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(a.inquiries); n > maxInquiries {
			t.Errorf("%d buckets are remembered", n)
		}
	})
}

// TestVersioningAnswers: a response is judged by the child elements, whatever the name of the root.
func TestVersioningAnswers(t *testing.T) {
	const namespace = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
	for _, c := range []struct {
		name, body string
		want       facts.Reason
	}{
		{"AWS, never enabled", `<?xml version="1.0" encoding="UTF-8"?><VersioningConfiguration` + namespace + `/>`, facts.None},
		{"without a namespace", `<VersioningConfiguration/>`, facts.None},
		{"with a prefix", `<s3:VersioningConfiguration xmlns:s3="x"><s3:Status>Enabled</s3:Status></s3:VersioningConfiguration>`, facts.Versioned},
		{"moto 5.2, never enabled", `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<GetBucketVersioningResponse` + namespace + `/>`, facts.None},
		{"moto 5.2, enabled", `<GetBucketVersioningResponse` + namespace + `><Status>Enabled</Status></GetBucketVersioningResponse>`, facts.Versioned},
		{"another root with a known child", `<Configuration><Status>Suspended</Status></Configuration>`, facts.Versioned},
		{"suspended", `<VersioningConfiguration><Status>Suspended</Status><MfaDelete>Disabled</MfaDelete></VersioningConfiguration>`, facts.Versioned},
		{"MFA alone", `<VersioningConfiguration><MfaDelete>Disabled</MfaDelete></VersioningConfiguration>`, facts.None},
		{"MinIO's exclusions", `<VersioningConfiguration><Status>Enabled</Status><ExcludedPrefixes><Prefix>a</Prefix></ExcludedPrefixes><ExcludeFolders>true</ExcludeFolders></VersioningConfiguration>`, facts.Versioned},
		{"another encoding", `<?xml version="1.0" encoding="ISO-8859-1"?><VersioningConfiguration/>`, facts.None},
		{"unknown children", `<VersioningConfiguration><State>on</State></VersioningConfiguration>`, facts.Unreadable},
		{"a listing", `<ListBucketResult><Name>b</Name></ListBucketResult>`, facts.Unreadable},
		{"an empty root of another name", `<Result/>`, facts.Unreadable},
		{"an error with status 200", `<Error><Code>InternalError</Code></Error>`, facts.Unreadable},
		{"a web page", `<html><body>hello</body></html>`, facts.Unreadable},
		{"cut off", `<VersioningConfiguration><Status>Ena`, facts.Unreadable},
		{"nothing", ``, facts.Unreadable},
	} {
		if got := versioningOf([]byte(c.body)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestEncryptionAnswers: the same for GetBucketEncryption.
func TestEncryptionAnswers(t *testing.T) {
	rule := func(algorithm string) string {
		return `<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>` + algorithm + `</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>`
	}
	for body, want := range map[string]facts.Reason{
		`<ServerSideEncryptionConfiguration>` + rule("aws:kms") + `</ServerSideEncryptionConfiguration>`:                                                            facts.Encrypted,
		`<ServerSideEncryptionConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + rule("aws:kms:dsse") + `</ServerSideEncryptionConfiguration>`:       facts.Encrypted,
		`<ServerSideEncryptionConfiguration>` + rule("AES256") + `</ServerSideEncryptionConfiguration>`:                                                             facts.None,
		`<GetBucketEncryptionResponse>` + rule("AES256") + rule("aws:kms") + `</GetBucketEncryptionResponse>`:                                                       facts.Encrypted,
		`<GetBucketEncryptionResponse><ServerSideEncryptionConfiguration>` + rule("aws:kms") + `</ServerSideEncryptionConfiguration></GetBucketEncryptionResponse>`: facts.Encrypted,
		`<ServerSideEncryptionConfiguration/>`: facts.None,
		`nonsense`:                             facts.None,
	} {
		if got := encryptionOf([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

// TestKinds: which kinds of write depend on what the upstream accepts.
func TestKinds(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, want := range map[string]string{
		"a": "", "a/b": "", "a/": "", "a/b/": "", "ä/ü": "", "...": "", ".a/b..": "", "a b+c%": "", long[:255] + "/" + long[:255]: "",
		"/a": "key leading-slash", "//a": "key leading-slash, key empty-segment", "a//b": "key empty-segment", "a//": "key empty-segment",
		"./a": "key dot-segment", "a/../b": "key dot-segment", "..": "key dot-segment", `a\b`: "key backslash",
		long: "key long-segment", "a/" + long + "/b": "key long-segment", "a\x01": "key control-character", "a\nb": "key control-character", "\x7f": "key control-character",
	} {
		if got := strings.Join(KindsOf(name, nil), ", "); got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct{ name, value, want string }{
		{"X-Amz-Storage-Class", "STANDARD", ""}, {"X-Amz-Storage-Class", "STANDARD_IA", "storage-class STANDARD_IA"}, {"X-Amz-Storage-Class", long, "storage-class " + strings.ToUpper(long[:32])},
		{"X-Amz-Website-Redirect-Location", "/x", "website-redirect"}, {"X-Amz-Checksum-Crc32", "AAAAAA==", ""}, {"X-Amz-Checksum-Xxhash3", "x", "checksum XXHASH3"},
		{"X-Amz-Checksum-Algorithm", "SHA256", ""}, {"X-Amz-Checksum-Algorithm", "SHA512", "checksum SHA512"}, {"X-Amz-Checksum-Type", "COMPOSITE", ""}, {"X-Amz-Meta-A", "b", ""},
	} {
		if got := strings.Join(KindsOf("a", map[string][]string{c.name: {c.value}}), ", "); got != c.want {
			t.Errorf("%s: %.40s: %q, want %q", c.name, c.value, got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { KindsOf("an/ordinary/key", nil) }); n > 0 {
		t.Errorf("%v allocations for an ordinary key", n)
	}
}

// TestRefusedQuestionIsAskedAgainSoon: a flush that waits for an answer is notified when a question
// fails at once. The question is repeated after the back-off, not after the longest wait.
func TestRefusedQuestionIsAskedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, refuses)
		a.MayFlush("bucket") // asks
		synctest.Wait()
		if a.ready.Load() != 1 {
			t.Fatalf("the flush was told %d times", a.ready.Load())
		}
		if wait := a.MayFlush("bucket"); wait > maxEarlyBackOff {
			t.Errorf("the flush waits for %v", wait)
		}
	})
}

// TestReturnDoesNotRefuseWriters: a write that waits for an answer when the upstream responds again
// is written through, not refused.
func TestReturnDoesNotRefuseWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, hangs)
		var why Cause
		err := errors.New("no answer")
		var work sync.WaitGroup
		work.Go(func() { why, err = a.Know(t.Context(), "bucket") })
		synctest.Wait()
		a.Revive(func(string) bool { return true })
		work.Wait()
		if why != Unanswered || err != nil {
			t.Errorf("%q, %v", why, err)
		}
	})
}

// TestNoWriteSlipsIntoAChange: a write that is accepted when a change begins does not get the epoch
// of that change, so the bucket is asked about again before the write is acknowledged.
func TestNoWriteSlipsIntoAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.None))
		if _, err := a.Know(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
		var over atomic.Bool
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for !over.Load() {
					epoch := a.book.Get(a.id("bucket")).Epoch
					why, _ := a.Know(t.Context(), "bucket")
					a.Buckets.mu.Lock()
					if why == NoCause && a.inquiries["bucket"].changing > 0 && a.book.Get(a.id("bucket")).Epoch == epoch {
						t.Error("a write would be acknowledged during a change")
						over.Store(true)
					}
					a.Buckets.mu.Unlock()
				}
			})
		}
		for range 20_000 {
			a.Change("bucket")(Unchanged)
		}
		over.Store(true)
		work.Wait()
	})
}

// TestResumeIsFinal: a flush that checks its bucket just as an operator resumes it does not hold it
// back again.
func TestResumeIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := askOf(t, says(facts.Versioned))
		if _, err := a.Know(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			a.book.Resume(a.id("bucket"), facts.None)
			if a.MayFlush("bucket"); a.PausedBy("bucket") != facts.Versioned {
				t.Fatal("the bucket is not held back")
			}
			var work sync.WaitGroup
			for range 4 {
				work.Go(func() { a.MayFlush("bucket") })
			}
			if !a.Resume("bucket") {
				t.Fatal("the bucket is not resumed")
			}
			work.Wait()
			if why := a.PausedBy("bucket"); why != facts.None {
				t.Fatalf("held back again: %s", why)
			}
		}
	})
}
