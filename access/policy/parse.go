package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxBytes is the largest policy document (S3: 20 KB for a bucket policy).
const MaxBytes = 20 << 10

const (
	arn          = "arn:aws:s3:::"
	vectorARN    = "arn:aws:s3vectors:"
	prefixKey    = "s3:prefix"
	delimiterKey = "s3:delimiter"
)

// oneOrMany is a JSON string or a list of them.
type oneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *oneOrMany) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		*l = make(oneOrMany, 1)
		return json.Unmarshal(raw, &(*l)[0])
	}
	return json.Unmarshal(raw, (*[]string)(l))
}

type document struct {
	Version   string
	ID        string `json:"Id"`
	Statement statements
}

// statements is a JSON statement or a list of them.
type statements []jsonStatement

// UnmarshalJSON implements json.Unmarshaler.
func (l *statements) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '{' {
		*l = make(statements, 1)
		return strictJSON(raw, &(*l)[0])
	}
	return strictJSON(raw, (*[]jsonStatement)(l))
}

type jsonStatement struct {
	Sid       string
	Effect    string
	Principal json.RawMessage // refused in the policy of a user
	Action    oneOrMany
	Resource  oneOrMany
	Condition map[string]map[string]oneOrMany
}

// strictJSON decodes one JSON value and refuses unknown fields.
func strictJSON(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// Parse parses a policy document. The error tells the author what to fix.
func Parse(raw []byte) (*Policy, error) {
	doc, err := parseDocument(raw, unsupported)
	if err != nil {
		return nil, err
	}
	p := &Policy{}
	for i, s := range doc.Statement {
		parsed, err := s.parse()
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		p.statements = append(p.statements, parsed)
	}
	return p, nil
}

// parseDocument decodes a document strictly. unsupported are the elements to refuse, with advice.
func parseDocument(raw []byte, unsupported map[string]string) (*document, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("the policy has %d bytes; the limit is %d", len(raw), MaxBytes)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New("there is no policy")
	}
	if err := checkNames(raw, unsupported); err != nil {
		return nil, err
	}
	var doc document
	if err := strictJSON(raw, &doc); err != nil {
		return nil, fmt.Errorf("the policy is not supported by this gateway: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if doc.Version != "" && doc.Version != "2012-10-17" && doc.Version != "2008-10-17" {
		return nil, fmt.Errorf("Version: %q is not a policy version; use \"2012-10-17\"", doc.Version)
	}
	if len(doc.Statement) == 0 {
		return nil, errors.New("the policy has no Statement")
	}
	return &doc, nil
}

// unsupported are the elements of the full policy language that are refused, each with advice.
var unsupported = map[string]string{
	"notaction":    "list the actions in Action, or deny the others",
	"notresource":  "list the resources in Resource, or deny the others",
	"principal":    "leave it out: a policy belongs to one user",
	"notprincipal": "leave it out: a policy belongs to one user",
}

// checkNames refuses a document in which a name occurs twice in one object, in whatever case: JSON
// parsers differ in which one they use.
func checkNames(raw []byte, unsupported map[string]string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	type object struct {
		names  map[string]bool // nil in a list
		isName bool            // the next token is a name
	}
	var open []*object
	for {
		token, err := d.Token()
		if err == io.EOF && len(open) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the policy is not valid JSON: %w", err)
		}
		if len(open) > maxNesting {
			return errors.New("the policy is nested too deeply")
		}
		var inside *object
		if len(open) > 0 {
			inside = open[len(open)-1]
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, &object{names: map[string]bool{}, isName: true})
				continue
			case '[':
				open = append(open, &object{})
				continue
			}
			if open = open[:len(open)-1]; len(open) > 0 && open[len(open)-1].names != nil {
				open[len(open)-1].isName = true
			}
			if len(open) == 0 && d.More() {
				return errors.New("there is data after the end of the policy")
			}
			continue
		case string:
			if inside != nil && inside.isName {
				name := strings.ToLower(t)
				if inside.names[name] {
					return fmt.Errorf("%q occurs twice in one object", t)
				}
				if advice, ok := unsupported[name]; ok {
					return fmt.Errorf("%s is not supported; %s", t, advice)
				}
				inside.names[name] = true
			}
		}
		if inside != nil && inside.names != nil {
			inside.isName = !inside.isName
		}
	}
}

const maxNesting = 8

func (s *jsonStatement) parse() (parsed statement, err error) {
	switch s.Effect {
	case "Allow":
	case "Deny":
		parsed.deny = true
	default:
		return parsed, fmt.Errorf("Effect: must be \"Allow\" or \"Deny\", not %q", s.Effect)
	}
	if len(s.Action) == 0 {
		return parsed, errors.New("Action: is missing")
	}
	if len(s.Resource) == 0 {
		return parsed, errors.New("Resource: is missing")
	}
	parsed.actions = map[string]bool{}
	for _, a := range s.Action {
		named := actionsLike(a)
		if len(named) == 0 {
			return parsed, fmt.Errorf("Action: %q matches no action that this gateway authorises; docs/access.md lists the actions", a)
		}
		maps.Copy(parsed.actions, named)
	}
	for _, r := range s.Resource {
		if err := parsed.addResource(r); err != nil {
			return parsed, err
		}
	}
	parsed.conditions, err = parseConditions(s.Condition)
	return parsed, err
}

// addResource adds a resource of either service; "*" is one of both.
func (s *statement) addResource(r string) error {
	resource, isS3 := strings.CutPrefix(r, arn)
	switch {
	case strings.Contains(r, "${"):
		return fmt.Errorf("Resource: %q contains a policy variable, which is not supported", r)
	case r == "*":
		s.resources, s.vectors = append(s.resources, r), append(s.vectors, r)
	case strings.HasPrefix(r, vectorARN):
		if !vectorResource(r) {
			return fmt.Errorf("Resource: %q must be %sREGION:ACCOUNT:bucket/NAME, which may be followed by /index/NAME; wildcards may stand for any part", r, vectorARN)
		}
		s.vectors = append(s.vectors, r)
	case !isS3 || resource == "":
		return fmt.Errorf("Resource: %q must be \"*\", or start with %q and name a bucket, or with %q", r, arn, vectorARN)
	default:
		s.resources = append(s.resources, resource)
	}
	return nil
}

// vectorResource reports whether a pattern can match the ARN of a vector bucket or an index.
func vectorResource(pattern string) bool {
	rest := strings.TrimPrefix(pattern, vectorARN)
	if strings.HasSuffix(rest, "*") && strings.Count(rest, ":") < 2 {
		return true // the wildcard stands for the rest, colons included
	}
	parts := strings.SplitN(rest, ":", 3)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return false
	}
	name, named := strings.CutPrefix(parts[2], "bucket/")
	return named && name != "" || strings.HasPrefix(parts[2], "*")
}

// operators are the string comparisons of conditions: whether they negate, and whether they take
// wildcards.
var operators = map[string]struct{ not, like bool }{
	"StringEquals": {}, "StringNotEquals": {not: true}, "StringLike": {like: true}, "StringNotLike": {not: true, like: true},
}

func parseConditions(block map[string]map[string]oneOrMany) (conditions []condition, err error) {
	for operator, lines := range block {
		kind, ok := operators[operator]
		if !ok {
			return nil, fmt.Errorf("Condition: %q is not supported; use StringEquals, StringLike or their negations", operator)
		}
		for key, values := range lines {
			name := strings.ToLower(key)
			if name != prefixKey && name != delimiterKey {
				return nil, fmt.Errorf("Condition: the key %q is not supported; use s3:prefix or s3:delimiter", key)
			}
			if len(values) == 0 {
				return nil, fmt.Errorf("Condition: %s has no value", key)
			}
			conditions = append(conditions, condition{key: name, not: kind.not, like: kind.like, values: values})
		}
	}
	return conditions, nil
}

// CheckOnly returns an error if p can allow any action besides those given.
func (p *Policy) CheckOnly(actions ...string) error {
	for _, s := range p.statements {
		for _, named := range slices.Sorted(maps.Keys(s.actions)) {
			if !s.deny && !slices.Contains(actions, named) {
				return fmt.Errorf("it allows %s; it may only allow %s", named, strings.Join(actions, ", "))
			}
		}
	}
	return nil
}
