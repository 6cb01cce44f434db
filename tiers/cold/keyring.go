package cold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/akidb/akigw"
)

const (
	// fetchKeys is how long a source of keys may take to hand them out.
	fetchKeys = 10 * time.Second
	// keysPatience is how long after a fetch has begun requests without valid keys wait for it. Later
	// ones are refused at once.
	keysPatience = 3 * time.Second
	// doubtPatience is how long the first request after a refusal waits for other keys, and doubtEvery
	// the least time between two fetches because of refusals: most refusals are about permissions.
	doubtPatience = 250 * time.Millisecond
	doubtEvery    = 10 * time.Second
	// keysAhead is how long before they expire keys are fetched again, or a quarter of the time that
	// they are valid, if that is less.
	keysAhead = 15 * time.Minute
	// keysBackoff and keysBackoffMost bound the wait after a fetch that failed; it doubles
	// with each.
	keysBackoff     = time.Second
	keysBackoffMost = time.Minute
)

// keyring holds the keys that requests to an upstream are signed with. It fetches them from their source
// in the background, one fetch at a time, before they expire and when the upstream has refused them. As
// long as keys are valid nothing waits for the source, which may hang, or return keys that have expired:
// it is asked again, less and less often.
type keyring struct {
	counters *counters
	source   credentials.Provider // asked by one goroutine at a time
	static   bool                 // the keys never change, and source has had them at once
	client   *http.Client
	log      *slog.Logger
	ctx      context.Context // ends fetches
	stop     context.CancelFunc

	mu       sync.Mutex
	value    credentials.Value // the keys, none if AccessKeyID is empty; guarded by mu
	again    time.Time         // when they are to be fetched again, zero for never; guarded by mu
	fetching *keyFetch         // nil: none is under way; guarded by mu
	failures int               // fetches that failed since the last that did not; guarded by mu
	failed   error             // why the last one failed, nil if it did not; guarded by mu
	rest     time.Time         // the source is left alone until then; guarded by mu
	doubted  bool              // the upstream refused the keys; guarded by mu
	doubts   time.Time         // when keys were fetched because of that; guarded by mu
}

// keyFetch is a fetch that is under way.
type keyFetch struct {
	began time.Time
	done  chan struct{} // closed when it has ended
}

// newKeyringOf makes a keyring of a source. log may be nil.
func newKeyringOf(source credentials.Provider, static bool, log *slog.Logger, counters *counters) *keyring {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &keyring{counters: counters, source: source, static: static, log: log}
	k.client = &http.Client{Timeout: fetchKeys, Transport: &http.Transport{DisableKeepAlives: true}}
	k.ctx, k.stop = context.WithCancel(context.Background())
	if static {
		k.value, k.failed = k.retrieve()
	}
	return k
}

// close ends a fetch. It waits for it only for a second: a source that reads a file on a dead network
// drive never notices.
func (k *keyring) close() {
	k.stop()
	k.mu.Lock()
	f := k.fetching
	k.mu.Unlock()
	if f == nil {
		return
	}
	select {
	case <-f.done:
	case <-time.After(time.Second):
	}
}

// ErrNoKeys marks a request that was not sent because there are no valid keys to sign it with.
const ErrNoKeys = akigw.Error("no valid credentials for the upstream")

// noKeys is the error of such a request. It is ErrNotSent as well, and errGivenUp, because it says nothing
// about the upstream.
type noKeys struct{ cause error }

// Error implements error.
func (e noKeys) Error() string { return ErrNoKeys.Error() + ": " + e.cause.Error() }

// Unwrap implements the interface of errors.Is.
func (e noKeys) Unwrap() []error { return []error{ErrNoKeys, ErrNotSent, errGivenUp, e.cause} }

// keys returns the keys to sign with now. The error is noKeys, or that of ctx.
func (k *keyring) keys(ctx context.Context) (credentials.Value, error) {
	v, valid, wait := k.held(time.Now())
	if wait != nil {
		wait.until(ctx, valid)
		v, valid, _ = k.held(time.Now())
	}
	switch {
	case ctx.Err() != nil:
		return v, ctx.Err()
	case !valid:
		return v, noKeys{k.problem()}
	}
	return v, nil
}

// held returns the keys and whether they are valid, and begins a fetch if one is due. wait is the fetch
// that the caller has to wait for, nil for none.
func (k *keyring) held(now time.Time) (v credentials.Value, valid bool, wait *keyFetch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	valid = k.value.AccessKeyID != "" && (k.value.Expiration.IsZero() || now.Before(k.value.Expiration))
	doubted := valid && k.doubted
	due := !valid || doubted || !k.again.IsZero() && !now.Before(k.again)
	rested := !now.Before(k.rest) || doubted && k.failures == 0
	if due && k.fetching == nil && rested {
		if doubted {
			k.doubted, k.doubts = false, now
			wait = k.fetchLocked(now)
			return k.value, valid, wait
		}
		k.fetchLocked(now)
	}
	if !valid {
		wait = k.fetching
	}
	return k.value, valid, wait
}

// until waits for a fetch, but not for long: doubtPatience if the caller has valid keys, else
// keysPatience; both count from the beginning of the fetch.
func (f *keyFetch) until(ctx context.Context, valid bool) {
	patience := keysPatience
	if valid {
		patience = doubtPatience
	}
	timer := time.NewTimer(time.Until(f.began.Add(patience)))
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// problem says why there are no valid keys.
func (k *keyring) problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.fetching != nil && k.failed != nil:
		return fmt.Errorf("their source has not responded for %v; before that: %w", time.Since(k.fetching.began).Round(time.Millisecond), k.failed)
	case k.fetching != nil:
		return fmt.Errorf("their source has not responded for %v", time.Since(k.fetching.began).Round(time.Millisecond))
	case k.failed != nil:
		return k.failed
	}
	return errors.New("they have expired") // between two looks
}

// fetchLocked begins a fetch.
func (k *keyring) fetchLocked(now time.Time) *keyFetch {
	f := &keyFetch{began: now, done: make(chan struct{})}
	k.fetching = f
	go func() { // ends with k.ctx, as far as its source heeds it
		defer close(f.done)
		k.done(k.retrieve())
	}()
	return f
}

// retrieve asks the source.
func (k *keyring) retrieve() (credentials.Value, error) {
	ctx, cancel := context.WithTimeout(k.ctx, fetchKeys)
	defer cancel()
	v, err := k.source.RetrieveWithCredContext(&credentials.CredContext{Client: k.client, Context: ctx})
	switch {
	case err != nil:
		return v, err
	case v.AccessKeyID == "" || v.SignerType == credentials.SignatureAnonymous:
		return v, errors.New("no source of credentials has any")
	case !v.Expiration.IsZero() && !time.Now().Before(v.Expiration):
		return v, fmt.Errorf("their source returns keys that expired at %s", v.Expiration.UTC().Format(time.RFC3339))
	}
	return v, nil
}

// done records how a fetch ended, and logs it.
func (k *keyring) done(v credentials.Value, err error) {
	before, wait := k.note(v, err, time.Now())
	switch {
	case k.ctx.Err() != nil: // the gateway ends
	case err != nil:
		k.counters.keysNotFetched.Inc()
		k.log.Error("the keys for an upstream could not be fetched; the current keys are used until they expire", "again_in", wait.Round(time.Millisecond).String(), "failures", before+1, "error", err)
	default:
		k.counters.keysFetched.Inc()
		if before > 0 {
			k.log.Info("the keys for an upstream could be fetched again", "failures", before)
		}
	}
}

// note records how a fetch ended. If it failed, keys that are still valid are kept. It returns how many
// fetches before it failed, and, if it failed, how long until the source is asked again.
func (k *keyring) note(v credentials.Value, err error, now time.Time) (before int, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fetching, k.failed, before = nil, err, k.failures
	if err != nil {
		wait = min(keysBackoff<<min(k.failures, 10), keysBackoffMost)
		wait = wait/2 + rand.N(wait/2) + 1
		k.failures++
		k.rest = now.Add(wait)
		return before, wait
	}
	k.value, k.failures, k.again = v, 0, time.Time{}
	if !v.Expiration.IsZero() {
		k.again = v.Expiration.Add(-min(keysAhead, v.Expiration.Sub(now)/4))
		k.rest = now.Add(keysBackoff) // short-lived keys are not fetched all the time
	}
	return before, 0
}

// failing reports whether the last fetch failed.
func (k *keyring) failing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed != nil
}

// refused says that the upstream refused a request with a status: the keys may have been replaced, so
// they are fetched again soon. S3 answers 400 to temporary keys that have expired by its clock.
func (k *keyring) refused(status int) {
	if k.static || status != http.StatusForbidden && status != http.StatusBadRequest {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if status == http.StatusForbidden || k.value.SessionToken != "" {
		k.doubted = k.doubted || time.Since(k.doubts) >= doubtEvery
	}
}

// chain is a list of sources, of which the first that has keys counts.
type chain []credentials.Provider

// RetrieveWithCredContext implements credentials.Provider.
func (c chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	var errs []error
	for _, source := range c {
		v, err := source.RetrieveWithCredContext(cc)
		if err == nil && v.AccessKeyID != "" {
			return v, nil
		}
		errs = append(errs, err)
	}
	return credentials.Value{SignerType: credentials.SignatureAnonymous}, errors.Join(errs...)
}

// Retrieve implements credentials.Provider.
func (c chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider: a keyring decides that.
func (c chain) IsExpired() bool { return true }

// provider makes a keyring a credentials.Provider.
type provider struct{ *keyring }

// RetrieveWithCredContext implements credentials.Provider.
func (p provider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	if cc == nil || cc.Context == nil {
		return p.keys(context.Background()) // takes at most keysPatience
	}
	return p.keys(cc.Context)
}

// Retrieve implements credentials.Provider.
func (p provider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider: the keyring is asked each time.
func (p provider) IsExpired() bool { return true }
