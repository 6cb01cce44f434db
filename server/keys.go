package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/internal/vfs"
)

// Trial holds the credentials that were generated for a gateway without configured ones.
type Trial struct {
	Root access.RootKey
	// Admin is a key of the admin listener, nil unless the upstream is the embedded one.
	Admin *access.Key
}

// bootstrap makes sure that there is a root key pair, and for a trial an admin key as well. It
// returns nil if a root key pair is configured.
func bootstrap(c *Config) (*Trial, error) {
	generated, err := c.EnsureRootKeys()
	if err != nil || !generated {
		return nil, err
	}
	t := &Trial{Root: c.rootKey()}
	if c.Upstream.URL == "" {
		t.Admin, err = ensureAdmin(c.users())
	}
	return t, err
}

// rootKey returns the root key pair.
func (c *Config) rootKey() access.RootKey {
	return access.RootKey{AccessKey: c.Gateway.AccessKey, SecretKey: c.Gateway.SecretKey}
}

// users returns the store of users and keys. The root key pair must be set.
func (c *Config) users() access.Store {
	return access.Store{Dir: c.path("access"), Root: c.rootKey()}
}

// OpenUsers opens the users and keys as the gateway does. It creates the data directory and the root key
// pair if need be.
func (c *Config) OpenUsers() (access.Store, error) {
	if err := makeData(c.Process.Data); err != nil {
		return access.Store{}, err
	}
	if _, err := c.EnsureRootKeys(); err != nil {
		return access.Store{}, err
	}
	return c.users(), nil
}

// EnsureRootKeys sets the root key pair, if none is configured, to the trial key pair of the data
// directory. It generates that pair if there is none, and reports whether the pair is generated.
func (c *Config) EnsureRootKeys() (generated bool, err error) {
	if c.Gateway.AccessKey != "" {
		return false, nil
	}
	path := c.path("trial-keys.json")
	p, err := trialKeys(path)
	if err != nil {
		return false, fmt.Errorf("trial key pair %s: %w", path, err)
	}
	c.Gateway.AccessKey, c.Gateway.SecretKey = p.AccessKey, p.SecretKey
	return true, nil
}

// trialKeys reads the generated key pair from a file, or writes a new one to it.
func trialKeys(path string) (p access.RootKey, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		p = access.RootKey{AccessKey: "TRIAL" + rand.Text()[:15], SecretKey: rand.Text() + rand.Text()[:14]}
		if raw, err = json.Marshal(p); err == nil {
			err = vfs.Replace(vfs.Disk{}, path, raw)
		}
		return p, err
	}
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err == nil && (p.AccessKey == "" || p.SecretKey == "") {
		err = errors.New("it has no keys; delete it to get new ones")
	}
	return p, err
}

// HasAdminKey reports whether the data directory has an admin key. It creates no users.
func (c *Config) HasAdminKey() bool {
	if _, err := os.Stat(c.users().Dir); err != nil {
		return false
	}
	if _, err := c.EnsureRootKeys(); err != nil {
		return false
	}
	state, err := c.users().Read()
	return err == nil && AdminKey(state) != nil
}

// AdminKey returns a permanent admin key of a state, nil if it has none.
func AdminKey(state *access.State) *access.Key {
	for _, u := range state.Users {
		for i, k := range state.Keys {
			if u.Admin && k.User == u.Name && !k.Temporary() {
				return &state.Keys[i]
			}
		}
	}
	return nil
}

// ensureAdmin returns an admin key, and creates one if there is none.
func ensureAdmin(users access.Store) (*access.Key, error) {
	state, err := users.Read()
	if err != nil {
		return nil, err
	}
	if k := AdminKey(state); k != nil {
		return k, nil
	}
	var key access.Key
	err = users.Edit(func(s *access.State) (err error) {
		if err := s.SetUser(access.User{Name: "operator", Admin: true}); err != nil {
			return err
		}
		key, err = s.AddKey(access.Key{User: "operator"}, time.Now())
		return err
	})
	return &key, err
}
