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

// remote are the flags of commands that ask a running gateway.
type remote struct {
	common
	Admin     string `help:"Address of the admin listener (default: the configured one)." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	AccessKey string `help:"Admin access key (default: one from the data directory)." env:"AKIGW_ADMIN_ACCESS_KEY"`
	SecretKey string `help:"Its secret." env:"AKIGW_ADMIN_SECRET_KEY"`
	JSON      bool   `name:"json" help:"Print JSON."`
}

// ask calls a method of the gateway's client.
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

// do is ask for a method that returns nothing.
func do(r *remote, call func(*client.Client, context.Context) error) error {
	_, err := ask(r, func(c *client.Client, ctx context.Context) (struct{}, error) { return struct{}{}, call(c, ctx) })
	return err
}

// gateway is a client of the gateway that is meant.
func (r *remote) gateway() (*client.Client, error) {
	c, err := r.load(nil)
	if err != nil {
		return nil, err
	}
	return r.client(c, c.Admin.KeysOnly), nil
}

// load reads the configuration of the gateway that is meant. settings, by key, override the file
// unless they are empty.
func (r *remote) load(settings map[string]string) (*server.Config, error) {
	flags := map[string]string{"data": r.Data, "admin_listen": r.Admin}
	maps.Copy(flags, settings)
	maps.DeleteFunc(flags, func(_, value string) bool { return value == "" })
	return server.Load(r.Config, os.Environ(), flags)
}

// client is a client of a gateway. It presents the key that was given, if one was, with each
// request; else it finds one in the data directory, for requests that need a key, or always.
func (r *remote) client(c *server.Config, always bool) *client.Client {
	return client.New(client.Options{
		Address: c.Admin.Listen, Key: sync.OnceValues(r.adminKey), AlwaysKey: always || r.AccessKey != "",
		HTTP: &http.Client{Transport: patient{http.DefaultTransport}},
	})
}

// patient tells a person that a request takes long.
type patient struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	defer busy("the gateway works on it")()
	return p.RoundTripper.RoundTrip(r)
}

// adminKey is the admin key that was given, or one from the data directory.
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
	return client.Key{}, errors.New("an admin key is needed for this: " + makeAdminKey)
}

// makeAdminKey is how to get an admin key.
const makeAdminKey = "akigw users set operator --admin && akigw keys create --user operator"
