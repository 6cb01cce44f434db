package main

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"sync"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/server"
)

// remote holds the flags of commands that call the admin API of a running gateway.
type remote struct {
	common
	Admin     string `help:"Address of the admin listener (default: the configured one)." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	AccessKey string `help:"Admin access key (default: one from the data directory)." env:"AKIGW_ADMIN_ACCESS_KEY"`
	SecretKey string `help:"Admin secret key." env:"AKIGW_ADMIN_SECRET_KEY"`
	JSON      bool   `name:"json" help:"Print JSON."`
}

// ask calls an admin API method and returns its result.
func ask[T any](r *remote, call func(*client.Client, context.Context) (T, error)) (answer T, err error) {
	gateway, err := r.gateway()
	if err != nil {
		return answer, err
	}
	return call(gateway, context.Background())
}

// list calls a method of the gateway's client that returns a list, and prints it.
func list[T any](r *remote, call func(*client.Client, context.Context) ([]T, error), header []string, columns func(T) []any) error {
	all, err := ask(r, call)
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(all)
	}
	return table(header, all, columns)
}

// do calls an admin API method that returns only an error.
func do(r *remote, call func(*client.Client, context.Context) error) error {
	_, err := ask(r, func(c *client.Client, ctx context.Context) (struct{}, error) { return struct{}{}, call(c, ctx) })
	return err
}

// gateway returns a client of the gateway that the flags name.
func (r *remote) gateway() (*client.Client, error) {
	c, err := r.load(nil)
	if err != nil {
		return nil, err
	}
	return r.client(c, c.Admin.KeysOnly), nil
}

// load reads the gateway's configuration. Non-empty settings, by key, override the file.
func (r *remote) load(settings map[string]string) (*server.Config, error) {
	flags := map[string]string{"data": r.Data, "admin_listen": r.Admin}
	maps.Copy(flags, settings)
	maps.DeleteFunc(flags, func(_, value string) bool { return value == "" })
	return server.Load(r.Config, os.Environ(), flags)
}

// client returns a client of a gateway. If a key was given, the client presents it with every
// request. Otherwise it looks for one in the data directory, either for every request or only for
// those that need a key.
func (r *remote) client(c *server.Config, always bool) *client.Client {
	return client.New(client.Options{
		Address: c.Admin.Listen, Key: sync.OnceValues(r.adminKey), AlwaysKey: always || r.AccessKey != "",
		HTTP: &http.Client{Transport: patient{http.DefaultTransport}},
	})
}

// adminKey returns the admin key that was given, or one from the data directory.
func (r *remote) adminKey() (client.Key, error) {
	if r.AccessKey != "" {
		return client.Key{AccessKey: r.AccessKey, SecretKey: r.SecretKey}, nil
	}
	state, err := r.read()
	if err != nil {
		return client.Key{}, err
	}
	if k := server.AdminKey(state); k != nil {
		return client.Key{AccessKey: k.AccessKey, SecretKey: k.SecretKey}, nil
	}
	return client.Key{}, errors.New("this requires an admin key: " + makeAdminKey)
}

// makeAdminKey are the commands that create an admin key.
const makeAdminKey = "akigw users set operator --admin && akigw keys create --user operator"
