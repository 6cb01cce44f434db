// Package policy is the language in which rights are written: the subset of
// S3's bucket and IAM policies that has Effect, Action and Resource with
// wildcards, and conditions on the prefix and delimiter of a listing. What a
// document says beyond that is refused when it is parsed, never ignored.
//
// A policy decides about exactly the bytes of the key that goes to the cache
// and to the upstream: it normalises nothing. An explicit Deny wins over any
// Allow, and what nothing allows is denied.
package policy

import (
	"slices"

	"github.com/akidb/akigw/internal/glob"
)

// Request is one question to a policy.
type Request struct {
	Action string // one of Actions, or Unlisted
	Bucket string // "" when the whole service is asked about
	Key    string // "" when the bucket itself is asked about
	// Prefix and Delimiter are what a listing asks for; Listing tells that it
	// is one, so that an absent prefix is an empty one.
	Prefix, Delimiter string
	Listing           bool
}

// resource is what follows "arn:aws:s3:::".
func (r *Request) resource() string {
	if r.Key == "" {
		return r.Bucket
	}
	return r.Bucket + "/" + r.Key
}

// Decision is a policy's answer.
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
	actions    map[string]bool // spelled out, in S3's case
	resources  []string        // without "arn:aws:s3:::", with wildcards
	conditions []condition
}

// Everything allows every action on every resource: the root key pair's.
var Everything = &Policy{statements: []statement{{actions: actionsLike("*"), resources: []string{"*"}}}}

// Within returns a policy that allows what both p and outer allow: how a
// temporary key's own policy narrows that of its user.
func (p *Policy) Within(outer *Policy) *Policy {
	return &Policy{statements: p.statements, within: outer}
}

// Allows reports whether r is allowed.
func (p *Policy) Allows(r Request) bool { return p.Decide(r) == Allowed }

// Decide answers r.
func (p *Policy) Decide(r Request) Decision {
	if p == nil {
		return Silent
	}
	decision := Silent
	resource := r.resource()
	for i := range p.statements {
		s := &p.statements[i]
		switch {
		case decision == Allowed && !s.deny, !s.applies(resource, &r):
		case s.deny:
			return Denied
		default:
			decision = Allowed
		}
	}
	if decision == Allowed && p.within != nil {
		return p.within.Decide(r)
	}
	return decision
}

func (s *statement) applies(resource string, r *Request) bool {
	return s.actions[r.Action] && matchesAny(s.resources, resource) &&
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

// holds compares what a listing asks for. Anything that is not a listing has
// no such value: then a positive comparison is false and a negative one true.
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
