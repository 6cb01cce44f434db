package gateway

import (
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
)

// Policies says what somebody may do.
type Policies interface {
	// PolicyOf returns the rights of an identity, nil for none. It is asked
	// once for each request.
	PolicyOf(id sigv4.Identity) *policy.Policy
}

// authorise decides whether a call may be done, before the cache, the object or
// a condition is looked at. What it needs, all of it, has to be allowed. The
// keys of DeleteObjects are decided one by one where they are read.
func (g *Gateway) authorise(c *Call, route *Route) error {
	c.rights = g.Policies.PolicyOf(c.identity)
	if route.Class == Refused {
		return nil // the same answer for everybody
	}
	action := route.Action
	if route.VersionAction != "" && c.query.Has("versionId") {
		action = route.VersionAction
	}
	if err := c.checkAnonymous(); err != nil {
		return err
	}
	if action != "" && !c.allowed(action, c.key) || route.Besides != "" && !c.allowed(route.Besides, c.key) {
		return s3err.AccessDenied
	}
	if route.Op != "DeleteObjects" && !c.allowedHeaders(c.key) {
		return s3err.AccessDenied
	}
	if route.Header == copySourceHeader && !c.allowedSource() {
		return s3err.AccessDenied
	}
	if c.identity.Anonymous() && (c.ContentLength != 0 || !route.admits(sigv4.Nowhere, sigv4.Undeclared)) {
		return s3err.AccessDenied // to read what is there is all that can be done without credentials
	}
	return nil
}

// checkAnonymous refuses response-* parameters that nobody signed (GetObject).
func (c *Call) checkAnonymous() error {
	if !c.identity.Anonymous() {
		return nil
	}
	for name := range c.query {
		if strings.HasPrefix(name, "response-") {
			return s3err.InvalidRequest.With("Request specific response headers cannot be used for anonymous GET requests.")
		}
	}
	return nil
}

func (c *Call) allowed(action string, key akigw.Key) bool {
	r := policy.Request{Action: action, Bucket: key.Bucket, Key: key.Name}
	if c.level() == BucketLevel && key.Name == "" {
		r.Listing, r.Prefix, r.Delimiter = true, c.query.Get("prefix"), c.query.Get("delimiter")
	}
	return c.rights.Allows(r)
}

// allowedHeaders decides about the headers that need a right of their own.
func (c *Call) allowedHeaders(key akigw.Key) bool {
	for name := range c.Header {
		if !strings.HasPrefix(name, amzPrefix) {
			continue
		}
		needs := amzHeaders[name].object
		if key.Name == "" {
			needs = amzHeaders[name].bucket
		}
		if needs != "" && !c.allowed(needs, key) {
			return false
		}
	}
	return true
}

// allowedSource decides about the source of a copy.
func (c *Call) allowedSource() bool {
	action := "s3:GetObject"
	if c.source.version != "" {
		action = "s3:GetObjectVersion"
	}
	return c.allowed(action, c.source.key)
}

// allowedDelete decides about one key of a DeleteObjects.
func (c *Call) allowedDelete(o deletion) bool {
	action := "s3:DeleteObject"
	if o.version != "" {
		action = "s3:DeleteObjectVersion"
	}
	key := akigw.Key{Bucket: c.key.Bucket, Name: o.name}
	return c.allowed(action, key) && c.allowedHeaders(key)
}
