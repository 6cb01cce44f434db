// Package client calls the admin API of a running gateway. It has a method for each operation and
// uses the types of package admin. The command line is built on it.
//
//	gateway := client.New(client.Options{Address: "127.0.0.1:9001", Key: key})
//	status, err := gateway.Status(ctx)
//
// It keeps no state and does not retry; contexts limit the time. An error is an *Error if the gateway
// refused the request. Its text is meant for people.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Options configure a Client.
type Options struct {
	// Address is HOST:PORT of the admin listener.
	Address string
	// Key returns the admin key. It is called for each request that presents one. With nil, the
	// client presents no key and can call only what the gateway allows without one.
	Key func() (Key, error)
	// AlwaysKey presents the key with every request, as a gateway with admin_keys_only requires.
	AlwaysKey bool
	// HTTP sends the requests; nil is http.DefaultClient.
	HTTP *http.Client
}

// Key is the key pair of an admin.
type Key struct{ AccessKey, SecretKey string }

// Client calls the admin API of one gateway. Its methods may be called concurrently.
type Client struct{ o Options }

// New returns a Client. It does not connect.
func New(o Options) *Client {
	o.HTTP = cmp.Or(o.HTTP, http.DefaultClient)
	return &Client{o}
}

// Error is an error response of the gateway.
type Error struct {
	Status int    // HTTP status
	Text   string // the reason, for people
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// maxErrorText bounds the text of an error in bytes.
const maxErrorText = 4 << 10

// request is a request to the admin API.
type request struct {
	method  string // "" is GET
	path    string
	query   url.Values
	body    []byte
	private bool // requires a key although it is a GET
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
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL, of which people know only the address
		}
		return nil, fmt.Errorf("no response from a gateway at %s: %w", c.o.Address, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText)) // a truncated text is still useful
		return nil, &Error{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return resp.Body, nil
}

// do sends a request whose response has no content of interest.
func (c *Client) do(ctx context.Context, r request) error {
	body, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return cmp.Or(err, body.Close())
}

// get sends a request and decodes the JSON document in the response.
func get[T any](ctx context.Context, c *Client, r request) (answer T, err error) {
	body, err := c.send(ctx, r)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("cannot read the gateway's response: %w", err)
	}
	return answer, nil
}

// Objects selects the objects that a request applies to.
type Objects struct {
	Bucket string
	// Prefix is the common prefix of their keys; "" selects the whole bucket.
	Prefix string
	// Exactly selects the one object whose key is Prefix.
	Exactly bool
}

// query returns the objects as query parameters.
func (o Objects) query() url.Values {
	name := "prefix"
	if o.Exactly {
		name = "key"
	}
	return url.Values{"bucket": {o.Bucket}, name: {o.Prefix}}
}
