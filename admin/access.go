package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/rules"
)

// User is a user, without its keys.
type User struct {
	Name   string          `json:"name"`
	Admin  bool            `json:"admin"`
	Policy json.RawMessage `json:"policy,omitempty"`
	Keys   int             `json:"keys"` // number of keys
}

// Key is a key, without its secret.
type Key struct {
	AccessKey string     `json:"access_key"`
	User      string     `json:"user"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"` // nil: never
	OwnPolicy bool       `json:"own_policy"`
}

// NewUser is the body of POST /api/v1/users.
type NewUser struct {
	Name   string          `json:"name"`
	Admin  bool            `json:"admin"`
	Policy json.RawMessage `json:"policy"`
}

// NewKey is the body of POST /api/v1/keys. With Seconds set, the key is temporary.
type NewKey struct {
	User    string          `json:"user"`
	Seconds int64           `json:"seconds,omitempty"`
	Policy  json.RawMessage `json:"policy,omitempty"`
}

// KeyPair is the response to POST /api/v1/keys, the only response that contains a secret.
type KeyPair struct {
	AccessKey    string     `json:"access_key"`
	SecretKey    string     `json:"secret_key"`
	SessionToken string     `json:"session_token,omitempty"`
	Expires      *time.Time `json:"expires,omitempty"`
}

// maxAccess bounds the body of a request that changes users or keys, in bytes.
const maxAccess = policy.MaxBytes + 4<<10

// accessAPI serves the routes for users and keys.
type accessAPI struct{ store *access.Store } // nil: this gateway keeps no users and keys

func (a accessAPI) routes() []route {
	return []route{
		{path: "/api/v1/users", private: true, handle: a.with(a.listUsers), summary: "Users and their policies", answer: []User{}},
		{path: "/api/v1/users", method: http.MethodPost, handle: a.with(a.setUser), summary: "Add a user, or replace its policy", body: NewUser{}},
		{path: "/api/v1/users/{name}", method: http.MethodDelete, handle: a.with(a.deleteUser), summary: "Delete a user and all of its keys"},
		{path: "/api/v1/keys", private: true, handle: a.with(a.listKeys), summary: "Keys, without secrets", answer: []Key{}},
		{path: "/api/v1/keys", method: http.MethodPost, handle: a.with(a.createKey), summary: "Make a key pair", body: NewKey{}, answer: KeyPair{}},
		{path: "/api/v1/keys/{id}", method: http.MethodDelete, handle: a.with(a.deleteKey), summary: "Delete a key"},
	}
}

// with wraps a handler that needs the store.
func (a accessAPI) with(handle func(w http.ResponseWriter, r *http.Request, store access.Store)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a.store == nil {
			http.Error(w, "this gateway keeps no users and keys", http.StatusNotFound)
			return
		}
		handle(w, r, *a.store)
	}
}

// body decodes a JSON body of up to most bytes. If that fails, it sends the error response and
// returns false.
func body(w http.ResponseWriter, r *http.Request, most int64, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && decoder.More() {
		err = errors.New("there is data after the JSON value")
	}
	if err != nil {
		http.Error(w, "the body must be JSON: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// given returns the policy in a request, nil if there is none.
func given(document json.RawMessage) (json.RawMessage, error) {
	if len(document) == 0 || string(document) == "null" {
		return nil, nil
	}
	_, err := policy.Parse(document)
	return document, err
}

func (a accessAPI) listUsers(w http.ResponseWriter, _ *http.Request, store access.Store) {
	state, err := store.Read()
	if err != nil {
		answer(w, err)
		return
	}
	all := []User{}
	for _, u := range state.Users {
		one := User{Name: u.Name, Admin: u.Admin, Policy: u.Policy}
		for _, k := range state.Keys {
			if k.User == u.Name {
				one.Keys++
			}
		}
		all = append(all, one)
	}
	writeJSON(w, all)
}

func (a accessAPI) setUser(w http.ResponseWriter, r *http.Request, store access.Store) {
	var n NewUser
	if !body(w, r, maxAccess, &n) {
		return
	}
	document, err := given(n.Policy)
	if err == nil {
		err = store.Edit(func(state *access.State) error {
			return state.SetUser(access.User{Name: n.Name, Admin: n.Admin, Policy: document})
		})
	}
	changed(w, err)
}

func (a accessAPI) deleteUser(w http.ResponseWriter, r *http.Request, store access.Store) {
	changed(w, store.Edit(func(state *access.State) error { return state.DeleteUser(r.PathValue("name")) }))
}

// changed sends the response to a change of users or keys. An error is the client's fault (400).
func changed(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, nil)
}

func (a accessAPI) listKeys(w http.ResponseWriter, _ *http.Request, store access.Store) {
	state, err := store.Read()
	if err != nil {
		answer(w, err)
		return
	}
	all := []Key{}
	for _, k := range state.Keys {
		all = append(all, Key{k.AccessKey, k.User, k.Created, end(&k), len(k.Policy) > 0})
	}
	writeJSON(w, all)
}

// end returns when a key expires, nil for never.
func end(k *access.Key) *time.Time {
	if !k.Temporary() {
		return nil
	}
	return &k.Expires
}

func (a accessAPI) createKey(w http.ResponseWriter, r *http.Request, store access.Store) {
	var n NewKey
	if !body(w, r, maxAccess, &n) {
		return
	}
	now := time.Now()
	document, err := given(n.Policy)
	key := access.Key{User: n.User, Policy: document}
	if n.Seconds > 0 {
		key.Expires = now.Add(time.Duration(n.Seconds) * time.Second).UTC().Truncate(time.Second)
	}
	if err == nil {
		err = store.Edit(func(state *access.State) (err error) {
			key, err = state.AddKey(key, now)
			return err
		})
	}
	if err != nil {
		changed(w, err)
		return
	}
	writeJSON(w, KeyPair{key.AccessKey, key.SecretKey, key.SessionToken, end(&key)})
}

func (a accessAPI) deleteKey(w http.ResponseWriter, r *http.Request, store access.Store) {
	changed(w, store.Edit(func(state *access.State) error { return state.DeleteKey(r.PathValue("id")) }))
}

// Setting is one setting that applies to a key, and where it comes from.
type Setting struct {
	Field string `json:"field"`
	Value string `json:"value"`
	Rule  string `json:"rule,omitempty"` // "" for the default
	Line  int    `json:"line,omitempty"` // of the configuration file
	// Note says why the setting is not in effect at present, "" if it is.
	Note string `json:"note,omitempty"`
}

// explain returns the settings that apply to a key.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	bucket, key := r.URL.Query().Get("bucket"), r.URL.Query().Get("key")
	if akigw.CheckBucketName(bucket) != nil || key == "" || akigw.CheckKeyName(key) != nil {
		http.Error(w, "bucket and key must name an object", http.StatusBadRequest)
		return
	}
	if s.Rules == nil {
		writeJSON(w, []Setting{})
		return
	}
	all := Settings(s.Rules.Explain(bucket, key))
	for i := range all {
		if all[i].Field == "write" {
			all[i].Note = s.Writes.ExplainWrite(akigw.Key{Bucket: bucket, Name: key})
		}
	}
	writeJSON(w, all)
}

// Settings converts explanations of rules to the API's type.
func Settings(explained []rules.Explained) []Setting {
	all := []Setting{}
	for _, e := range explained {
		one := Setting{Field: e.Field, Value: e.Value, Line: e.Line}
		if e.Rule != nil {
			one.Rule = e.Rule.String()
		}
		all = append(all, one)
	}
	return all
}
