package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// BucketPolicy is the parsed policy of a vector bucket (PutVectorBucketPolicy): statements with a
// Principal, about the bucket and its indexes. It is immutable; a nil BucketPolicy says nothing.
type BucketPolicy struct {
	statements []bucketStatement
}

type bucketStatement struct {
	statement
	everyone bool
	users    []string // of the gateway
}

// ParseBucket parses the policy of the vector bucket with an ARN, in an account. The error tells the
// author what to fix. The Principal of each statement is "*", {"AWS": "*"}, or {"AWS": one or a list of
// arn:aws:iam::ACCOUNT:user/NAME}, for users of the gateway.
func ParseBucket(raw []byte, bucket, account string) (*BucketPolicy, error) {
	doc, err := parseDocument(raw, map[string]string{
		"notaction": unsupported["notaction"], "notresource": unsupported["notresource"], "notprincipal": "list the users in Principal, or deny the others",
	})
	if err != nil {
		return nil, err
	}
	p := &BucketPolicy{}
	for i, s := range doc.Statement {
		parsed, err := s.parseBucket(bucket, account)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		p.statements = append(p.statements, parsed)
	}
	return p, nil
}

func (s *jsonStatement) parseBucket(bucket, account string) (parsed bucketStatement, err error) {
	if parsed.everyone, parsed.users, err = parsePrincipal(s.Principal, account); err != nil {
		return parsed, err
	}
	for _, a := range s.Action {
		if a != "*" && !strings.HasPrefix(strings.ToLower(a), "s3vectors:") {
			return parsed, fmt.Errorf("Action: %q is no action of S3 Vectors", a)
		}
	}
	for _, r := range s.Resource {
		if r != "*" && r != bucket && !strings.HasPrefix(r, bucket+"/") {
			return parsed, fmt.Errorf("Resource: %q must be \"*\", or %s, which may be followed by /index/NAME", r, bucket)
		}
	}
	if len(s.Condition) > 0 {
		return parsed, errors.New("Condition: is not supported in the policy of a vector bucket")
	}
	parsed.statement, err = s.parse()
	return parsed, err
}

// parsePrincipal returns the users that a Principal names.
func parsePrincipal(raw json.RawMessage, account string) (everyone bool, users []string, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return false, nil, errors.New("Principal: is missing")
	}
	var names oneOrMany
	if raw[0] == '{' {
		var by struct{ AWS oneOrMany }
		if err := strictJSON(raw, &by); err != nil {
			return false, nil, errors.New(`Principal: must be "*", or {"AWS": ...}; other kinds of principals are not supported`)
		}
		names = by.AWS
	} else if string(raw) == `"*"` {
		names = oneOrMany{"*"}
	}
	if len(names) == 0 {
		return false, nil, errors.New(`Principal: must be "*", or {"AWS": ...} with at least one user`)
	}
	for _, name := range names {
		user, ok := strings.CutPrefix(name, "arn:aws:iam::"+account+":user/")
		switch {
		case name == "*":
			everyone = true
		case !ok || user == "" || strings.ContainsAny(user, "*?${"):
			return false, nil, fmt.Errorf("Principal: %q must be \"*\" or arn:aws:iam::%s:user/NAME, for a user of this gateway", name, account)
		default:
			users = append(users, user)
		}
	}
	return everyone, users, nil
}

// decide returns the decision about a request of a user.
func (p *BucketPolicy) decide(user string, r *Request) Decision {
	if p == nil {
		return Silent
	}
	decision := Silent
	for i := range p.statements {
		s := &p.statements[i]
		if !s.everyone && !slices.Contains(s.users, user) || !s.applies("", r) {
			continue
		}
		if s.deny {
			return Denied
		}
		decision = Allowed
	}
	return decision
}

// AllowsIn reports whether r, a request of a user of S3 Vectors, is allowed by p, the policy of the
// user or key, or by that of the bucket: one of them has to allow it, and none may deny it. The policy
// of a bucket gives a temporary key no more than the key's own policy allows. A nil p has no rights.
func (p *Policy) AllowsIn(bucket *BucketPolicy, user string, r Request) bool {
	if p == nil || p.denies(&r) {
		return false
	}
	switch bucket.decide(user, &r) {
	case Denied:
		return false
	case Allowed:
		return p.Allows(r) || p.within == nil || p.own(&r) == Allowed
	}
	return p.Allows(r)
}

// denies reports whether a statement of p, or of the policy that it is within, denies a request.
func (p *Policy) denies(r *Request) bool {
	return p != nil && (p.own(r) == Denied || p.within.denies(r))
}
