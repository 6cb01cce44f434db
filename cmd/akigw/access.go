package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/server"
)

// common holds the flags of commands that work on the data directory. A running gateway picks
// up the changes by itself.
type common struct {
	Config string `help:"TOML configuration file." placeholder:"FILE" env:"AKIGW_CONFIG"`
	Data   string `help:"Directory for everything the gateway stores (default ./data)." placeholder:"DIR" env:"AKIGW_DATA"`
}

// store opens the users and keys with the root key pair that encrypts them, configured as for
// serve.
func (f *common) store() (access.Store, error) {
	flags := map[string]string{}
	if f.Data != "" {
		flags["data"] = f.Data
	}
	c, err := server.Load(f.Config, os.Environ(), flags)
	if err != nil {
		return access.Store{}, err
	}
	return c.OpenUsers()
}

// read returns the users and keys.
func (f *common) read() (*access.State, error) {
	store, err := f.store()
	if err != nil {
		return nil, err
	}
	return store.Read()
}

// edit applies change to the users and keys and saves them.
func (f *common) edit(change func(*access.State) error) error {
	store, err := f.store()
	if err != nil {
		return err
	}
	return store.Edit(change)
}

// usersCommand is "akigw users".
type usersCommand struct {
	Set    usersSet    `cmd:"" help:"Add a user, or replace its policy."`
	List   usersList   `cmd:"" help:"List users."`
	Show   usersShow   `cmd:"" help:"Print the policy of a user."`
	Delete usersDelete `cmd:"" help:"Delete a user and all of its keys."`
}

type usersSet struct {
	common
	Name   string `arg:"" help:"Name of the user; \"anonymous\" sets what requests without credentials may read."`
	Policy string `help:"JSON file with the policy; - for standard input." placeholder:"FILE"`
	Admin  bool   `help:"Add an administrator: a user of the admin listener, without a policy and without S3 access."`
}

// Run implements the command.
func (u *usersSet) Run() error {
	document, err := readPolicy(u.Policy)
	if err != nil {
		return err
	}
	return u.edit(func(s *access.State) error {
		return s.SetUser(access.User{Name: u.Name, Admin: u.Admin, Policy: document})
	})
}

// readPolicy reads a policy document. It returns nil if file is empty.
func readPolicy(path string) (json.RawMessage, error) {
	if path == "" {
		return nil, nil
	}
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, policy.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	_, err = policy.Parse(raw)
	return raw, err
}

type usersList struct {
	common
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (u *usersList) Run() error {
	state, err := u.read()
	if err != nil {
		return err
	}
	type row struct {
		Name  string `json:"name"`
		Admin bool   `json:"admin"`
		Keys  int    `json:"keys"`
	}
	rows := []row{}
	for _, user := range state.Users {
		r := row{Name: user.Name, Admin: user.Admin}
		for _, k := range state.Keys {
			if k.User == user.Name {
				r.Keys++
			}
		}
		rows = append(rows, r)
	}
	if u.JSON {
		return printJSON(rows)
	}
	return table([]string{"USER", "ADMIN", "KEYS"}, rows, func(r row) []any { return []any{r.Name, yes(r.Admin), r.Keys} })
}

type usersShow struct {
	common
	Name string `arg:"" help:"Name of the user."`
}

// Run implements the command.
func (u *usersShow) Run() error {
	state, err := u.read()
	if err != nil {
		return err
	}
	for _, user := range state.Users {
		if user.Name == u.Name {
			if user.Admin {
				return fmt.Errorf("%s is an administrator and has no policy", u.Name)
			}
			fmt.Println(strings.TrimSpace(string(user.Policy)))
			return nil
		}
	}
	return fmt.Errorf("there is no user %q", u.Name)
}

type usersDelete struct {
	common
	Name string `arg:"" help:"Name of the user."`
}

// Run implements the command.
func (u *usersDelete) Run() error {
	return u.edit(func(s *access.State) error { return s.DeleteUser(u.Name) })
}

// keysCommand is "akigw keys".
type keysCommand struct {
	Create keysCreate `cmd:"" help:"Create a permanent or temporary key pair and print it."`
	List   keysList   `cmd:"" help:"List keys, without secrets."`
	Delete keysDelete `cmd:"" help:"Delete a key. Its ID is never reused."`
	Reseal keysReseal `cmd:"" help:"Re-encrypt users and keys after the root secret key has changed. The previous one is read from AKIGW_PREVIOUS_SECRET_KEY."`
}

type keysCreate struct {
	common
	User      string        `help:"User that the key belongs to. Without it, the key belongs to root and needs an expiry or a policy of its own." placeholder:"NAME" default:"root"`
	Expires   time.Duration `help:"Create temporary credentials with a session token, valid for this long (at most 36h), such as 90m." placeholder:"DURATION"`
	Policy    string        `help:"JSON file with a policy that restricts the user's further; - for standard input." placeholder:"FILE"`
	AccessKey string        `help:"Use this access key ID, with the secret from AKIGW_NEW_SECRET_KEY: for clients that already have a key pair." placeholder:"ID"`
	Output    string        `help:"Output format: text, env (shell variables) or json (the AWS credential_process format)." enum:"text,env,json" default:"text"`
	NewSecret string        `hidden:"" env:"AKIGW_NEW_SECRET_KEY"`
}

// Run implements the command.
func (k *keysCreate) Run() error {
	if (k.AccessKey == "") != (k.NewSecret == "") {
		return errors.New("--access-key and AKIGW_NEW_SECRET_KEY must be set together")
	}
	document, err := readPolicy(k.Policy)
	if err != nil {
		return err
	}
	now := time.Now()
	key := access.Key{User: k.User, Policy: document, AccessKey: k.AccessKey, SecretKey: k.NewSecret}
	if k.Expires != 0 {
		key.Expires = now.Add(k.Expires).UTC().Truncate(time.Second)
	}
	err = k.edit(func(s *access.State) (err error) {
		key, err = s.AddKey(key, now)
		return err
	})
	if err != nil {
		return err
	}
	return k.print(&key)
}

// print prints a new key pair. The secret is not shown again.
func (k *keysCreate) print(key *access.Key) error {
	if k.Output == "json" {
		out := map[string]any{"Version": 1, "AccessKeyId": key.AccessKey, "SecretAccessKey": key.SecretKey}
		if key.Temporary() {
			out["SessionToken"], out["Expiration"] = key.SessionToken, key.Expires.Format(time.RFC3339)
		}
		return printJSON(out)
	}
	lines := [][3]string{{"access key", "AWS_ACCESS_KEY_ID", key.AccessKey}, {"secret key", "AWS_SECRET_ACCESS_KEY", key.SecretKey}}
	if key.Temporary() {
		lines = append(lines, [3]string{"session token", "AWS_SESSION_TOKEN", key.SessionToken})
	}
	if k.Output == "env" {
		for _, l := range lines {
			fmt.Printf("export %s=%s\n", l[1], l[2])
		}
		return nil
	}
	lines = append(lines, [3]string{"user", "", key.User})
	if key.Temporary() {
		lines = append(lines, [3]string{"expires", "", key.Expires.Format(time.RFC3339)})
	}
	return table(nil, lines, func(l [3]string) []any { return []any{l[0], l[2]} })
}

type keysList struct {
	common
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (k *keysList) Run() error {
	state, err := k.read()
	if err != nil {
		return err
	}
	type row struct {
		AccessKey string     `json:"access_key"`
		User      string     `json:"user"`
		Created   time.Time  `json:"created"`
		Expires   *time.Time `json:"expires,omitempty"`
		Policy    bool       `json:"own_policy"`
	}
	rows := []row{}
	for _, key := range state.Keys {
		r := row{AccessKey: key.AccessKey, User: key.User, Created: key.Created, Policy: len(key.Policy) > 0}
		if key.Temporary() {
			r.Expires = &key.Expires
		}
		rows = append(rows, r)
	}
	if k.JSON {
		return printJSON(rows)
	}
	return table([]string{"ACCESS KEY", "USER", "CREATED", "EXPIRES", "OWN POLICY"}, rows, func(r row) []any {
		expires := "never"
		if r.Expires != nil {
			expires = r.Expires.Format(time.RFC3339)
			if r.Expires.Before(time.Now()) {
				expires += " (expired)"
			}
		}
		return []any{r.AccessKey, r.User, r.Created.Format(time.RFC3339), expires, yes(r.Policy)}
	})
}

type keysDelete struct {
	common
	AccessKey string `arg:"" help:"Access key ID."`
}

// Run implements the command.
func (k *keysDelete) Run() error {
	return k.edit(func(s *access.State) error { return s.DeleteKey(k.AccessKey) })
}

type keysReseal struct {
	common
	Previous string `hidden:"" env:"AKIGW_PREVIOUS_SECRET_KEY"`
}

// Run implements the command.
func (k *keysReseal) Run() error {
	if k.Previous == "" {
		return errors.New("set AKIGW_PREVIOUS_SECRET_KEY to the previous root secret key")
	}
	store, err := k.store()
	if err != nil {
		return err
	}
	return store.Reseal(k.Previous)
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows in columns.
func table[T any](header []string, rows []T, columns func(T) []any) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if header != nil {
		fmt.Fprintln(w, strings.Join(header, "\t"))
	}
	for _, r := range rows {
		var cells []string
		for _, c := range columns(r) {
			cells = append(cells, fmt.Sprint(c))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
