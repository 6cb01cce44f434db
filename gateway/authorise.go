package gateway

import (
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
	"github.com/akidb/akigw/writeback/overlay"
)

// Policies gives the rights of identities.
type Policies interface {
	// PolicyOf returns the rights of an identity, nil for none. It is called once for each request.
	PolicyOf(id sigv4.Identity) *policy.Policy
}

// authoriser decides whether a call is allowed.
type authoriser struct {
	policies Policies
	Store    *tiers.Store
	Writes   *writeback.WriteBack
	Upstream Upstream
	Reserved Reserved
}

// authorise decides whether a call is allowed, before the cache, the object or a condition is
// looked at. Every right that the call needs must be granted. The keys of DeleteObjects are decided
// one by one, after its document has been read.
func (g *authoriser) authorise(c *call, route *Route) error {
	c.rights = g.policies.PolicyOf(c.identity)
	if route.Class == Refused {
		return nil // a refused operation gives everyone the same response
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
		return s3err.AccessDenied // requests without credentials can only read
	}
	return nil
}

// checkAnonymous refuses unsigned response-* parameters (GetObject).
func (c *call) checkAnonymous() error {
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

func (c *call) allowed(action string, key akigw.Key) bool {
	r := policy.Request{Action: action, Bucket: key.Bucket, Key: key.Name}
	if c.level() == BucketLevel && key.Name == "" {
		r.Listing, r.Prefix, r.Delimiter = true, c.query.Get("prefix"), c.query.Get("delimiter")
	}
	return c.rights.Allows(r)
}

// allowedHeaders checks the headers that need a right of their own.
func (c *call) allowedHeaders(key akigw.Key) bool {
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

// allowedSource checks the right to read the source of a copy.
func (c *call) allowedSource() bool {
	action := "s3:GetObject"
	if c.source.version != "" {
		action = "s3:GetObjectVersion"
	}
	return c.allowed(action, c.source.key)
}

// allowedDelete checks the right to delete one key of a DeleteObjects.
func (c *call) allowedDelete(o deletion) bool {
	action := "s3:DeleteObject"
	if o.version != "" {
		action = "s3:DeleteObjectVersion"
	}
	key := akigw.Key{Bucket: c.key.Bucket, Name: o.name}
	return c.allowed(action, key) && c.allowedHeaders(key)
}

// checkKeys refuses the gateway's own keys, and a copy between two upstreams, which neither of them
// could carry out.
func (g *authoriser) checkKeys(c *call) error {
	if g.Writes.Reserved(c.key) || c.source != nil && g.Writes.Reserved(c.source.key) {
		return s3err.AccessDenied.With("Keys that begin with " + overlay.ReservedPrefix + " are the gateway's own in this bucket.")
	}
	if err := g.Reserved.check(c); err != nil {
		return err
	}
	if c.source == nil || g.Upstream.Owner(c.source.key.Bucket) == g.Upstream.Owner(c.key.Bucket) {
		return nil
	}
	return s3err.NotImplemented.With("The source and the destination of this copy are on different upstreams: get the object and put it.")
}
