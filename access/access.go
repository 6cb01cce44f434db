// Package access keeps the users of the gateway with their policies, key pairs and temporary
// credentials, and the policy for requests without credentials. It stores them in one encrypted file,
// reloads the file when it changes, and decides from one immutable snapshot.
//
// It does not verify signatures or serve requests: it provides the verifier with secrets and the
// gateway with policies. Admin keys and S3 keys are disjoint; the root key pair is an S3 key.
package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/watch"
	"github.com/akidb/akigw/sigv4"
)

// RootKey is the configured key pair of the gateway. The file is encrypted with its secret.
type RootKey struct {
	AccessKey, SecretKey string
}

// Store is the file of the users and keys, and the key pair that encrypts it.
type Store struct {
	Dir  string // need not exist
	Root RootKey
	// Metrics receives the metrics of a Keyring; nil discards them.
	Metrics *metrics.Set

	iterations int // of the key derivation; 0 means iterations
}

func (s Store) file() *file {
	n := s.iterations
	if n == 0 {
		n = iterations
	}
	return &file{dir: s.Dir, iterations: n}
}

// Keyring holds the users and keys in force. All methods but Run may be called from any goroutine.
type Keyring struct {
	file     *file
	root     RootKey
	log      *slog.Logger
	counters counters
	snapshot atomic.Pointer[snapshot]
}

// snapshot is a State with indexes for look-ups. It is immutable.
type snapshot struct {
	keys      map[string]*loadedKey
	anonymous *policy.Policy
}

type loadedKey struct {
	credential sigv4.Credential
	admin      bool
	user       string
	rights     *policy.Policy
}

// Open loads the users and keys.
func (s Store) Open(log *slog.Logger) (*Keyring, error) {
	k := &Keyring{file: s.file(), root: s.Root, log: log, counters: newCounters(s.Metrics)}
	return k, k.reload()
}

// counters count how often the users and keys were reloaded.
type counters struct{ reloads, errors *metrics.Counter }

func newCounters(set *metrics.Set) counters {
	set = cmp.Or(set, metrics.NewSet())
	return counters{set.NewCounter(`akigw_access_reloads_total{result="ok"}`), set.NewCounter(`akigw_access_reloads_total{result="error"}`)}
}

// Run reloads the file when it changes, until ctx ends. If the new file cannot be used, Run logs the
// error, and the previous users and keys stay in force.
func (k *Keyring) Run(ctx context.Context) error {
	watch.Poll(ctx, func() {
		if !k.file.changed() {
			return
		}
		if err := k.reload(); err != nil {
			k.counters.errors.Inc()
			k.log.Error("users and keys could not be reloaded; the previous ones stay in force", "error", err)
			return
		}
		k.counters.reloads.Inc()
		k.log.Info("reloaded users and keys", "keys", len(k.snapshot.Load().keys)-1)
	})
	return nil
}

func (k *Keyring) reload() error {
	state, err := k.file.read(k.root.SecretKey)
	if err != nil {
		return err
	}
	s, err := load(state, k.root)
	if err != nil {
		return err
	}
	k.snapshot.Store(s)
	return nil
}

// load checks a state as a whole and builds a snapshot of it.
func load(state *State, root RootKey) (*snapshot, error) {
	s := &snapshot{keys: map[string]*loadedKey{
		root.AccessKey: {credential: sigv4.Credential{Secret: root.SecretKey}, user: Root, rights: policy.Everything},
	}}
	rights := map[string]*policy.Policy{Root: policy.Everything}
	admins := map[string]bool{}
	for _, u := range state.Users {
		p, err := u.parse()
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", u.Name, err)
		}
		rights[u.Name], admins[u.Name] = p, u.Admin
	}
	s.anonymous = rights[Anonymous]
	for _, key := range state.Keys {
		outer, known := rights[key.User]
		if !known {
			return nil, fmt.Errorf("key %s belongs to %s, which is not a user", key.AccessKey, key.User)
		}
		if s.keys[key.AccessKey] != nil {
			return nil, fmt.Errorf("key %s of user %s: the ID is already in use; delete the key (akigw keys delete %s), or choose another root key pair", key.AccessKey, key.User, key.AccessKey)
		}
		l := &loadedKey{credential: sigv4.Credential{Secret: key.SecretKey, Token: key.SessionToken, Expires: key.Expires}, admin: admins[key.User], user: key.User, rights: outer}
		if len(key.Policy) > 0 {
			own, err := policy.Parse(key.Policy)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", key.AccessKey, err)
			}
			l.rights = own.Within(outer)
		}
		s.keys[key.AccessKey] = l
	}
	return s, nil
}

// Lookup implements sigv4.Keys for the S3 listener.
func (k *Keyring) Lookup(accessKey string) (sigv4.Credential, bool) {
	return k.lookup(accessKey, false)
}

func (k *Keyring) lookup(accessKey string, admin bool) (sigv4.Credential, bool) {
	found := k.snapshot.Load().keys[accessKey]
	if found == nil || found.admin != admin {
		return sigv4.Credential{}, false
	}
	return found.credential, true
}

// Admins returns the keys of the admin listener.
type Admins struct{ *Keyring }

// Lookup implements sigv4.Keys.
func (a Admins) Lookup(accessKey string) (sigv4.Credential, bool) { return a.lookup(accessKey, true) }

// PolicyOf returns the policy that applies to the sender of a request; nil allows nothing. A key
// that was deleted after its signature was verified has none.
func (k *Keyring) PolicyOf(id sigv4.Identity) *policy.Policy {
	s := k.snapshot.Load()
	switch {
	case !id.Verified():
		return nil
	case id.Anonymous():
		return s.anonymous
	}
	if found := s.keys[id.AccessKey()]; found != nil && !found.admin {
		return found.rights
	}
	return nil
}

// UserOf returns the name of the user whose key signed a request: Root for the root key pair and
// temporary keys of it, Anonymous for a request without credentials, "" for a key that was deleted
// after its signature was verified.
func (k *Keyring) UserOf(id sigv4.Identity) string {
	switch {
	case !id.Verified():
		return ""
	case id.Anonymous():
		return Anonymous
	}
	if found := k.snapshot.Load().keys[id.AccessKey()]; found != nil && !found.admin {
		return found.user
	}
	return ""
}

// Edit changes the state: it reads the file, applies change, checks the result as a whole, and
// replaces the file atomically. Concurrent edits wait for each other. If change fails, the file stays
// as it is.
func (s Store) Edit(change func(*State) error) error {
	return s.replace(s.Root.SecretKey, func(f *file, state *State) error {
		if err := change(state); err != nil {
			return err
		}
		_, err := load(state, s.Root)
		return err
	})
}

// Read returns the content of the file.
func (s Store) Read() (*State, error) { return s.file().read(s.Root.SecretKey) }

// Reseal re-encrypts the file, which is encrypted with a previous root secret, with the current one.
func (s Store) Reseal(previous string) error {
	return s.replace(previous, func(f *file, _ *State) error {
		if f.seen == nil {
			return fmt.Errorf("there are no users and keys in %s", s.Dir)
		}
		f.salt = nil
		return nil
	})
}

// replace decrypts the file with one secret, applies change, and encrypts it with the root secret.
func (s Store) replace(secret string, change func(*file, *State) error) error {
	f := s.file()
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	state, err := f.read(secret)
	if err == nil {
		err = change(f, state)
	}
	if err == nil {
		err = f.write(state, s.Root.SecretKey)
	}
	return errors.Join(err, unlock())
}
