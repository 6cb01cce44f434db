// Package policy is the policy language: the subset of S3's bucket and IAM policies that has
// Effect, Action and Resource with wildcards, and conditions on the prefix and delimiter of a
// listing. It knows the resources of S3 and of S3 Vectors. The policies of vector buckets have a
// Principal as well. Anything else in a document is refused when it is parsed, never ignored.
//
// A policy decides about exactly the bytes of the key that are used for the cache and the upstream:
// it normalises nothing. An explicit Deny overrides any Allow, and what nothing allows is denied.
package policy

import (
	"slices"

	"github.com/akidb/akigw/internal/glob"
)

// Request is what a policy decides about.
type Request struct {
	Action string // one of Actions or VectorActions, or Unlisted
	// Vectors is the ARN of the vector bucket or index that a request of S3 Vectors is about, or
	// AllVectors; then Bucket and Key are not used. "" for a request of S3.
	Vectors string
	Bucket  string // "" for a request of the service
	Key     string // "" for a request of the bucket itself
	// Prefix and Delimiter are the parameters of a listing. Listing says that the request is one,
	// so that an absent prefix counts as an empty one.
	Prefix, Delimiter string
	Listing           bool
}

// resource is the part of the resource name after "arn:aws:s3:::".
func (r *Request) resource() string {
	if r.Key == "" {
		return r.Bucket
	}
	return r.Bucket + "/" + r.Key
}

// AllVectors is the resource of ListVectorBuckets, which has none of its own: only a statement about
// all resources ("*") is about it.
const AllVectors = "*"

// Decision is the result of a policy.
type Decision int

// The decisions.
const (
	Silent  Decision = iota // no statement applies
	Allowed                 // a statement allows, and none denies
	Denied                  // a statement denies
)

// Policy is a parsed document. It is immutable; a nil Policy allows nothing.
type Policy struct {
	statements []statement
	within     *Policy
}

type statement struct {
	deny       bool
	actions    map[string]bool // without wildcards, in S3's case
	resources  []string        // of S3, without "arn:aws:s3:::", with wildcards
	vectors    []string        // of S3 Vectors: whole ARNs, with wildcards
	conditions []condition
}

// Everything allows every action on every resource. It is the policy of the root key pair.
var Everything = &Policy{statements: []statement{{actions: actionsLike("*"), resources: []string{"*"}, vectors: []string{"*"}}}}

// Within returns a policy that allows what both p and outer allow. That is how the policy of a
// temporary key restricts that of its user.
func (p *Policy) Within(outer *Policy) *Policy {
	return &Policy{statements: p.statements, within: outer}
}

// Allows reports whether r is allowed.
func (p *Policy) Allows(r Request) bool { return p.Decide(r) == Allowed }

// Decide returns the decision on r.
func (p *Policy) Decide(r Request) Decision {
	if p == nil {
		return Silent
	}
	decision := p.own(&r)
	if decision == Allowed && p.within != nil {
		return p.within.Decide(r)
	}
	return decision
}

// own returns the decision of the policy's own statements.
func (p *Policy) own(r *Request) Decision {
	decision := Silent
	resource := r.resource()
	for i := range p.statements {
		s := &p.statements[i]
		switch {
		case decision == Allowed && !s.deny, !s.applies(resource, r):
		case s.deny:
			return Denied
		default:
			decision = Allowed
		}
	}
	return decision
}

func (s *statement) applies(resource string, r *Request) bool {
	resources := s.resources
	if r.Vectors != "" {
		resource, resources = r.Vectors, s.vectors
	}
	return s.actions[r.Action] && matchesAny(resources, resource) &&
		!slices.ContainsFunc(s.conditions, func(c condition) bool { return !c.holds(r) })
}

func matchesAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob.Match(p, s) })
}

// condition is one line of a Condition block.
type condition struct {
	key    string // "s3:prefix" or "s3:delimiter"
	not    bool   // StringNotEquals, StringNotLike
	like   bool   // StringLike, StringNotLike
	values []string
}

// holds compares a parameter of a listing. A request that is not a listing has no such parameter:
// then a positive comparison is false, and a negated one true.
func (c *condition) holds(r *Request) bool {
	if !r.Listing {
		return c.not
	}
	value := r.Prefix
	if c.key == delimiterKey {
		value = r.Delimiter
	}
	equal := slices.Contains(c.values, value)
	if c.like {
		equal = matchesAny(c.values, value)
	}
	return equal != c.not
}
