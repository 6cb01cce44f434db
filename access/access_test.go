package access

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/access/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var root = RootKey{"rootaccess", "root-secret-of-this-test"}

const readData = `{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"}}`

// in returns a store with a fast key derivation.
func in(dir string) Store { return Store{Dir: dir, Root: root, iterations: 1} }

func edit(t testing.TB, dir string, change func(*State) error) {
	t.Helper()
	if err := in(dir).Edit(change); err != nil {
		t.Fatal(err)
	}
}

// addKey adds a user that may read, and a key for it.
func addKey(t testing.TB, dir string, u User, k Key) Key {
	t.Helper()
	edit(t, dir, func(s *State) (err error) {
		if u.Name != Root {
			err = s.SetUser(u)
		}
		if err == nil {
			k.User = u.Name
			k, err = s.AddKey(k, time.Now())
		}
		return err
	})
	return k
}

func open(t testing.TB, dir string) *Keyring {
	t.Helper()
	k, err := in(dir).Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTwoSets: admin keys are not valid for S3, S3 keys are not valid for the admin
// listener, and the root key pair is an S3 key.
//
// Scenarios: S30.
func TestTwoSets(t *testing.T) {
	dir := t.TempDir()
	reader := addKey(t, dir, User{Name: "reader", Policy: []byte(readData)}, Key{})
	operator := addKey(t, dir, User{Name: "operator", Admin: true}, Key{})
	ring := open(t, dir)
	for _, c := range []struct {
		accessKey string
		s3, admin bool
	}{{reader.AccessKey, true, false}, {operator.AccessKey, false, true}, {root.AccessKey, true, false}, {"nobody", false, false}} {
		_, s3 := ring.Lookup(c.accessKey)
		_, admin := Admins{ring}.Lookup(c.accessKey)
		if s3 != c.s3 || admin != c.admin {
			t.Errorf("%s: s3 %t, admin %t", c.accessKey, s3, admin)
		}
	}
	if c, _ := ring.Lookup(reader.AccessKey); c.Secret != reader.SecretKey {
		t.Error("another secret")
	}
}

// TestRefused: invalid changes are refused and leave the file as it is.
//
// Scenarios: S30.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	reader := addKey(t, dir, User{Name: "reader", Policy: []byte(readData)}, Key{})
	gone := addKey(t, dir, User{Name: "gone", Policy: []byte(readData)}, Key{AccessKey: "GONE-KEY", SecretKey: "a-secret-of-its-own"})
	edit(t, dir, func(s *State) error { return s.DeleteUser("gone") })
	now := time.Now()
	add := func(k Key) func(*State) error {
		return func(s *State) error { _, err := s.AddKey(k, now); return err }
	}
	set := func(u User) func(*State) error { return func(s *State) error { return s.SetUser(u) } }
	for name, c := range map[string]struct {
		change func(*State) error
		want   string
	}{
		"a deleted id":            {add(Key{User: "reader", AccessKey: gone.AccessKey, SecretKey: "long-enough-secret"}), "used before"},
		"a taken id":              {add(Key{User: "reader", AccessKey: reader.AccessKey, SecretKey: "long-enough-secret"}), "already"},
		"the root's id":           {add(Key{User: "reader", AccessKey: root.AccessKey, SecretKey: "long-enough-secret"}), "already in use"},
		"a user's key, no user":   {add(Key{User: "nobody"}), "no user"},
		"S49 a short secret":      {add(Key{User: "reader", AccessKey: "mine", SecretKey: "short"}), "at least 8"},
		"S49 a well-known pair":   {add(Key{User: "reader", AccessKey: "minioadmin", SecretKey: "minioadmin"}), "well-known"},
		"S20 an id with a slash":  {add(Key{User: "reader", AccessKey: "a/b/c", SecretKey: "long-enough-secret"}), "printable"},
		"S20 an id with a quote":  {add(Key{User: "reader", AccessKey: `a")(uid=*`, SecretKey: "long-enough-secret"}), "printable"},
		"a second root":           {add(Key{User: Root}), "second root"},
		"too short a life":        {add(Key{User: "reader", Expires: now.Add(time.Millisecond)}), "lifetime"},
		"too long a life":         {add(Key{User: "reader", Expires: now.Add(100 * time.Hour)}), "lifetime"},
		"a key for nobody":        {add(Key{User: Anonymous}), "cannot have keys"},
		"a bad policy":            {set(User{Name: "x", Policy: []byte("{}")}), "no Statement"},
		"no policy":               {set(User{Name: "x"}), "no policy"},
		"a user named root":       {set(User{Name: Root, Policy: []byte(readData)}), "configured key pair"},
		"a bad name":              {set(User{Name: "a b", Policy: []byte(readData)}), "user name"},
		"an admin with a policy":  {set(User{Name: "x", Admin: true, Policy: []byte(readData)}), "not valid for S3"},
		"an admin without keys":   {set(User{Name: Anonymous, Admin: true}), "cannot be an admin"},
		"S29 anonymous writes":    {set(User{Name: Anonymous, Policy: []byte(strings.ReplaceAll(readData, "s3:GetObject", "s3:PutObject"))}), "may only allow"},
		"a user turned admin":     {set(User{Name: "reader", Admin: true}), "delete it first"},
		"deletion of no user":     {func(s *State) error { return s.DeleteUser("x") }, "no user"},
		"deletion of no key":      {func(s *State) error { return s.DeleteKey("x") }, "no key"},
		"a bad policy for a key":  {add(Key{User: "reader", Policy: []byte("{}")}), "no Statement"},
		"a failure of the caller": {func(*State) error { return errors.New("stop") }, "stop"},
	} {
		before, _ := os.ReadFile(filepath.Join(dir, "keyring"))
		if err := in(dir).Edit(c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "keyring")); !bytes.Equal(before, after) {
			t.Errorf("%s changed the file", name)
		}
	}
}

// TestTemporaryKeys: a temporary key has a token, expires, has no rights beyond its user's,
// and is removed later.
func TestTemporaryKeys(t *testing.T) {
	dir := t.TempDir()
	const all = `{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`
	k := addKey(t, dir, User{Name: "reader", Policy: []byte(readData)}, Key{Expires: time.Now().Add(time.Hour), Policy: []byte(all)})
	ring := open(t, dir)
	c, ok := ring.Lookup(k.AccessKey)
	if !ok || c.Token == "" || c.Token != k.SessionToken || !c.Expires.Equal(k.Expires) {
		t.Fatalf("%+v", c)
	}
	rights := ring.snapshot.Load().keys[k.AccessKey].rights
	if !rights.Allows(policy.Request{Action: "s3:GetObject", Bucket: "data", Key: "k"}) || rights.Allows(policy.Request{Action: "s3:GetObject", Bucket: "other", Key: "k"}) {
		t.Error("the user's rights are not the limit")
	}
	edit(t, dir, func(s *State) error {
		_, err := s.AddKey(Key{User: "reader"}, time.Now().Add(2*time.Hour))
		if len(s.Keys) != 1 || len(s.Retired) != 1 {
			t.Errorf("%d keys, %d retired", len(s.Keys), len(s.Retired))
		}
		return err
	})
}

// TestSealed: a copy of the file reveals nothing without the root secret, a damaged file is
// refused as a whole, and other users cannot read the file.
func TestSealed(t *testing.T) {
	dir := t.TempDir()
	k := addKey(t, dir, User{Name: "canary-user", Policy: []byte(readData)}, Key{Expires: time.Now().Add(time.Hour)})
	path := filepath.Join(dir, "keyring")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{k.AccessKey, k.SecretKey, k.SessionToken, "canary-user", "Statement", root.SecretKey} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%q can be read", secret)
		}
	}
	for _, name := range []string{path, filepath.Join(dir, "lock")} {
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("S47 %s has mode %v", name, info.Mode())
		}
	}
	if _, err := (Store{Dir: dir, Root: RootKey{"x", "another-root-secret"}, iterations: 1}).Read(); err == nil || !strings.Contains(err.Error(), "another root secret") {
		t.Errorf("opened with another secret: %v", err)
	}
	f := in(dir).file()
	for i := range raw {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 1
		if _, err := f.open(damaged, root.SecretKey); err == nil {
			t.Fatalf("a change of byte %d went unnoticed", i)
		}
	}
	for _, n := range []int{0, 1, len(magic), len(raw) / 2, len(raw) - 1} {
		if _, err := f.open(raw[:n], root.SecretKey); err == nil {
			t.Errorf("cut to %d bytes it opens", n)
		}
	}
	next := Store{Dir: dir, Root: RootKey{"x", "the-next-root-secret"}, iterations: 1}
	if err := next.Reseal("a-wrong-previous-secret"); err == nil {
		t.Error("sealed again without the previous secret")
	}
	if err := next.Reseal(root.SecretKey); err != nil {
		t.Fatal(err)
	}
	if s, err := next.Read(); err != nil || len(s.Keys) != 1 {
		t.Errorf("sealed again: %v", err)
	}
	if _, err := in(dir).Read(); err == nil {
		t.Error("the previous secret still opens it")
	}
}

// TestReload: a running gateway picks up changes, keeps the previous state if the file
// is bad, and grants a deleted key no rights.
//
// Scenarios: D19.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	ring := open(t, dir)
	if ring.file.changed() {
		t.Error("changed without a change")
	}
	k := addKey(t, dir, User{Name: "reader", Policy: []byte(readData)}, Key{})
	if _, ok := ring.Lookup(k.AccessKey); ok || !ring.file.changed() {
		t.Fatal("no change to see")
	}
	if err := ring.reload(); err != nil {
		t.Fatal(err)
	}
	if _, ok := ring.Lookup(k.AccessKey); !ok || ring.file.changed() {
		t.Fatal("not reloaded")
	}
	good, _ := os.ReadFile(ring.file.path())
	if err := os.WriteFile(ring.file.path(), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ring.reload(); err == nil {
		t.Error("garbage was taken over")
	}
	if _, ok := ring.Lookup(k.AccessKey); !ok {
		t.Error("what was in force is lost")
	}
	if err := os.WriteFile(ring.file.path(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, func(s *State) error { return s.DeleteKey(k.AccessKey) })
	if err := ring.reload(); err != nil {
		t.Fatal(err)
	}
	if _, ok := ring.Lookup(k.AccessKey); ok {
		t.Error("deleted, and still there")
	}
}

// TestConcurrentEdits: no edit is lost.
func TestConcurrentEdits(t *testing.T) {
	dir := t.TempDir()
	var wait sync.WaitGroup
	const editors = 8
	for i := range editors {
		wait.Go(func() {
			if err := in(dir).Edit(func(s *State) error {
				return s.SetUser(User{Name: fmt.Sprintf("user-%d", i), Policy: []byte(readData)})
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if s, err := in(dir).Read(); err != nil || len(s.Users) != editors {
		t.Errorf("%d users, %v", len(s.Users), err)
	}
}

// FuzzOpen: no file content makes the reader panic, and only content that was encrypted with
// the key is accepted.
func FuzzOpen(f *testing.F) {
	ring := in(f.TempDir()).file()
	sealed, err := ring.seal(&State{Users: []User{{Name: "a"}}}, root.SecretKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := ring.open(raw, root.SecretKey); err == nil && (len(s.Users) != 1 || s.Users[0].Name != "a") {
			t.Fatal("opened what was not sealed")
		}
	})
}
