package access

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/sigv4"
)

// Reserved user names: Root is the configured key pair, and Anonymous stands for requests without
// credentials.
const (
	Root      = "root"
	Anonymous = "anonymous"
)

// anonymousActions are the only actions that can be allowed without credentials.
func anonymousActions() []string {
	return []string{"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
}

// User has a policy and any number of keys.
type User struct {
	Name string
	// Admin users have keys for the admin listener, and no policy.
	Admin  bool            `json:",omitempty"`
	Policy json.RawMessage `json:",omitempty"`
}

// Key is a key pair.
type Key struct {
	AccessKey, SecretKey string
	User                 string
	Created              time.Time
	// SessionToken and Expires make a key temporary.
	SessionToken string    `json:",omitempty"`
	Expires      time.Time `json:",omitzero"`
	// Policy restricts the user's policy.
	Policy json.RawMessage `json:",omitempty"`
}

// Temporary reports whether k expires.
func (k *Key) Temporary() bool { return !k.Expires.IsZero() }

// State is the content of the file.
type State struct {
	Users []User
	Keys  []Key
	// Retired are the IDs of deleted keys, which are never reused.
	Retired []string
}

// parse returns the policy of a user, nil for an admin.
func (u *User) parse() (*policy.Policy, error) {
	if u.Admin {
		if len(u.Policy) > 0 {
			return nil, errors.New("an administrator cannot have a policy: admin keys are not valid for S3")
		}
		return nil, nil
	}
	p, err := policy.Parse(u.Policy)
	if err == nil && u.Name == Anonymous {
		err = p.CheckOnly(anonymousActions()...)
	}
	return p, err
}

// SetUser adds a user, or replaces its policy. Its keys stay.
func (s *State) SetUser(u User) error {
	if u.Name == Root {
		return errors.New("root is the configured key pair, which has full access to S3 and none to the admin listener")
	}
	if u.Name == Anonymous && u.Admin {
		return errors.New("anonymous cannot be an administrator")
	}
	if !validName(u.Name) {
		return fmt.Errorf("%q is not a user name: 1 to 64 letters, digits or characters of _+=,.@-", u.Name)
	}
	if _, err := u.parse(); err != nil {
		return err
	}
	i := slices.IndexFunc(s.Users, func(old User) bool { return old.Name == u.Name })
	switch {
	case i < 0:
		s.Users = append(s.Users, u)
	case s.Users[i].Admin != u.Admin && slices.ContainsFunc(s.Keys, func(k Key) bool { return k.User == u.Name }):
		return fmt.Errorf("user %s already has keys; to turn it into an administrator or back, delete it first", u.Name)
	default:
		s.Users[i] = u
	}
	return nil
}

func validName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_+=,.@-", r))
	})
}

// DeleteUser removes a user and its keys.
func (s *State) DeleteUser(name string) error {
	if !s.hasUser(name) {
		return fmt.Errorf("there is no user %q", name)
	}
	s.Users = slices.DeleteFunc(s.Users, func(u User) bool { return u.Name == name })
	s.dropKeys(func(k Key) bool { return k.User == name })
	return nil
}

func (s *State) hasUser(name string) bool {
	return slices.ContainsFunc(s.Users, func(u User) bool { return u.Name == name })
}

// MinLife and MaxLife are the limits of a temporary key's lifetime, as for AWS's session tokens.
const (
	minLife = time.Second
	maxLife = 36 * time.Hour
)

// AddKey adds a key to its user. It fills in empty fields: a new ID, a new secret and, if k
// expires, a session token. It also removes expired keys.
func (s *State) AddKey(k Key, now time.Time) (Key, error) {
	s.dropKeys(func(old Key) bool { return old.Temporary() && old.Expires.Before(now) })
	switch {
	case k.User == Anonymous:
		return k, errors.New("anonymous cannot have keys")
	case k.User == Root && !k.Temporary() && len(k.Policy) == 0:
		return k, errors.New("a permanent key without restrictions would be a second root key; give it a user, a policy or an expiry")
	case k.User != Root && !s.hasUser(k.User):
		return k, fmt.Errorf("there is no user %q; akigw users set adds one", k.User)
	case k.Temporary() && (k.Expires.Sub(now) < minLife || k.Expires.Sub(now) > maxLife):
		return k, fmt.Errorf("the lifetime of a temporary key must be %v to %v", minLife, maxLife)
	}
	k.Created = now.UTC().Truncate(time.Second)
	prefix := "AKGW"
	if k.Temporary() {
		prefix, k.SessionToken = "ASGW", rand.Text()+rand.Text()+rand.Text()
	}
	if k.AccessKey == "" {
		k.AccessKey, k.SecretKey = prefix+rand.Text()[:16], rand.Text()+rand.Text()[:14]
	}
	switch {
	case slices.Contains(s.Retired, k.AccessKey):
		return k, fmt.Errorf("the key ID %s was used before and cannot be reused", k.AccessKey)
	case slices.ContainsFunc(s.Keys, func(old Key) bool { return old.AccessKey == k.AccessKey }):
		return k, fmt.Errorf("key %s already exists", k.AccessKey)
	}
	if err := sigv4.CheckPair(k.AccessKey, k.SecretKey); err != nil {
		return k, err
	}
	s.Keys = append(s.Keys, k)
	return k, nil
}

// DeleteKey removes a key.
func (s *State) DeleteKey(accessKey string) error {
	if !s.dropKeys(func(k Key) bool { return k.AccessKey == accessKey }) {
		return fmt.Errorf("there is no key %q", accessKey)
	}
	return nil
}

// dropKeys removes keys and retires their IDs.
func (s *State) dropKeys(which func(Key) bool) (any bool) {
	s.Keys = slices.DeleteFunc(s.Keys, func(k Key) bool {
		if !which(k) {
			return false
		}
		any = true
		s.Retired = append(s.Retired, k.AccessKey)
		return true
	})
	return any
}
