// Package s3client sends signed S3 requests in tests: Client as any client would, Signing with every
// part of the signature chosen by the test, wrong ones too. It shares no code with package sigv4,
// which it tests.
package s3client

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// The root key pair of tests.
const (
	AccessKey = "testaccess"
	SecretKey = "testsecret-testsecret"
)

// Client sends signed requests to one endpoint.
type Client struct {
	Endpoint string // "http://127.0.0.1:9000"
	HTTP     *http.Client
}

// Answer is a response with its body read.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Request builds a signed request. path is the decoded path; header may set
// X-Amz-Content-Sha256 to choose a payload mode.
func (c *Client) Request(method, path, query string, header http.Header, body []byte) (*http.Request, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath, u.RawQuery = path, s3utils.EncodePath(path), query
	r := &http.Request{Method: method, URL: u, Host: u.Host, Header: header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	if r.Header.Get("X-Amz-Content-Sha256") == "" {
		sum := sha256.Sum256(body)
		r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	}
	return signer.SignV4(*r, AccessKey, SecretKey, "", "us-east-1"), nil
}

// Do sends a request and reads the response. If the body breaks off, Do returns what it has read
// and the error.
func (c *Client) Do(r *http.Request) (*Answer, error) {
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, body}, err
}

// Must sends a signed request and fails the test if there is no response.
func (c *Client) Must(t testing.TB, method, path, query string, header http.Header, body []byte) *Answer {
	t.Helper()
	r, err := c.Request(method, path, query, header, body)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s?%s: %v", method, path, query, err)
	}
	return a
}
