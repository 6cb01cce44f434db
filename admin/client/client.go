// Package client calls the API of the admin listener of a running gateway: one method for each thing
// that the API does, with the types of package admin. The command line is made of it.
//
//	gateway := client.New(client.Options{Address: "127.0.0.1:9001", Key: key})
//	status, err := gateway.Status(ctx)
//
// It keeps no state, repeats no request, and sets no time limit: contexts do. An error is an *Error
// if the gateway answered and refused, and its text is meant for people.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Options are what a Client is made of.
type Options struct {
	// Address is the admin listener's, HOST:PORT.
	Address string
	// Key returns the admin key, and is called for each request that presents one. nil presents
	// none: such a client can read what the gateway lets everybody read.
	Key func() (Key, error)
	// AlwaysKey presents the key with requests that may not need one, too: for a gateway that has
	// admin_keys_only set.
	AlwaysKey bool
	// HTTP sends the requests; nil is http.DefaultClient.
	HTTP *http.Client
}

// Key is the key pair of an admin.
type Key struct{ AccessKey, SecretKey string }

// Client is the admin API of one gateway. Any goroutine may use it.
type Client struct{ o Options }

// New makes a client. It does not connect.
func New(o Options) *Client {
	o.HTTP = cmp.Or(o.HTTP, http.DefaultClient)
	return &Client{o}
}

// Error is the answer of a gateway that did not do what it was asked for.
type Error struct {
	Status int    // of HTTP
	Text   string // the reason, for people
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// maxErrorText is how much of the text of an error is read, in bytes.
const maxErrorText = 4 << 10

// request is a request to the admin API.
type request struct {
	method  string // "" is GET
	path    string
	query   url.Values
	body    []byte
	private bool // it needs a key although it is a GET
}

// send sends a request and returns the body of a success, which the caller closes.
func (c *Client) send(ctx context.Context, r request) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+c.o.Address+r.path+"?"+r.query.Encode(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if c.o.Key != nil && (req.Method != http.MethodGet || r.private || c.o.AlwaysKey) {
		key, err := c.o.Key()
		if err != nil {
			return nil, err
		}
		req.SetBasicAuth(key.AccessKey, key.SecretKey)
	}
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no gateway answers at %s: %w", c.o.Address, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText)) // a cut error text is still the error
		return nil, &Error{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return resp.Body, nil
}

// do sends a request and reads the answer, which says nothing but that it was done.
func (c *Client) do(ctx context.Context, r request) error {
	body, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return cmp.Or(err, body.Close())
}

// get sends a request and decodes the answer, one JSON document.
func get[T any](ctx context.Context, c *Client, r request) (answer T, err error) {
	body, err := c.send(ctx, r)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("the answer of the gateway cannot be read: %w", err)
	}
	return answer, nil
}

// Objects is the objects that a request is for.
type Objects struct {
	Bucket string
	// Prefix is how their keys begin; "" stands for all objects of the bucket.
	Prefix string
	// Exactly selects the one object whose key is Prefix.
	Exactly bool
}

// query is the objects as parameters of a query.
func (o Objects) query() url.Values {
	name := "prefix"
	if o.Exactly {
		name = "key"
	}
	return url.Values{"bucket": {o.Bucket}, name: {o.Prefix}}
}
