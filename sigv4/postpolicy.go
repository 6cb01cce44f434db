package sigv4

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// PostPolicy is the policy of a form, whose signature was verified ("POST policy").
type PostPolicy struct {
	expires            time.Time
	conditions         []condition
	minBytes, maxBytes int64 // content-length-range
}

// unlimited returns the policy of a form that has none.
func unlimited() *PostPolicy { return &PostPolicy{maxBytes: math.MaxInt64} }

// condition is a condition about one field.
type condition struct {
	prefix bool   // starts-with; else an exact match
	field  string // in lower case; "" names no field, so that the condition fails
	value  string
	text   string // as S3 repeats it in an error
}

// admits decides whether a form meets the policy: it has not expired, every condition holds, and every
// field is covered by one.
func (p *PostPolicy) admits(f form, now time.Time) error {
	refuse := func(reason string) error {
		return s3err.AccessDenied.With("Invalid according to Policy: " + reason)
	}
	if !now.Before(p.expires) {
		return refuse("Policy expired.")
	}
	covered := make(map[string]bool, len(p.conditions))
	for _, c := range p.conditions {
		if value, ok := f.value(c.field); !ok || !c.holds(value) {
			return refuse("Policy Condition failed: " + c.text)
		}
		covered[c.field] = true
	}
	if extra := f.uncovered(func(field string) bool { return covered[field] }); len(extra) > 0 {
		return refuse("Extra input fields: " + strings.Join(extra, ", "))
	}
	return nil
}

// holds reports whether a value meets the condition. A Content-Type with commas is a list, each element
// of which has to have the prefix.
func (c *condition) holds(value string) bool {
	if !c.prefix {
		return value == c.value
	}
	if c.field != "content-type" {
		return strings.HasPrefix(value, c.value)
	}
	for element := range strings.SplitSeq(value, ",") {
		if !strings.HasPrefix(strings.TrimLeft(element, " "), c.value) {
			return false
		}
	}
	return true
}

// invalidPolicy returns the error of a policy that is not well-formed.
func invalidPolicy(problem string) error {
	return s3err.InvalidPolicyDocument.With("Invalid Policy: " + problem)
}

const (
	invalidJSON    = "Invalid JSON."
	invalidNumbers = "Invalid content-length-range: wrong number of arguments."
)

// parsePolicy parses a policy in base64. Members, conditions and operators that S3 does not know are
// errors.
func parsePolicy(encoded string) (*PostPolicy, error) {
	document, err := base64.StdEncoding.DecodeString(encoded)
	switch {
	case err != nil:
		return nil, invalidPolicy("invalid Base64 encoding.")
	case len(bytes.TrimSpace(document)) == 0:
		return nil, invalidPolicy("Expecting '{' but found End-of-Input")
	}
	members, ok := parseMembers(withoutEscapes(document))
	if !ok {
		return nil, invalidPolicy(invalidJSON)
	}
	p := unlimited()
	var expiration, conditions json.RawMessage
	for _, m := range members {
		switch {
		case m.name == "expiration" && expiration == nil:
			expiration = m.value
		case m.name == "conditions" && conditions == nil:
			conditions = m.value
		default:
			return nil, invalidPolicy("Unexpected: " + strconv.Quote(m.name))
		}
	}
	if err := p.setExpiration(expiration); err != nil {
		return nil, err
	}
	return p, p.addConditions(conditions)
}

// setExpiration parses the time at which the policy ends.
func (p *PostPolicy) setExpiration(raw json.RawMessage) error {
	if raw == nil {
		return invalidPolicy("Policy missing expiration.")
	}
	text, ok := jsonString(raw)
	if !ok {
		return invalidPolicy(invalidJSON)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return invalidPolicy("Invalid 'expiration' value: '" + text + "'")
	}
	p.expires = at
	return nil
}

// addConditions parses the list of conditions.
func (p *PostPolicy) addConditions(raw json.RawMessage) error {
	if raw == nil {
		return invalidPolicy("Policy missing conditions.")
	}
	var list []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return invalidPolicy("Invalid 'conditions' value: must be a List.")
	}
	for _, raw := range list {
		var err error
		switch raw[0] {
		case '{':
			err = p.addSimple(raw)
		case '[':
			err = p.addOperation(raw)
		default:
			err = invalidPolicy("Invalid condition test: must be a List or Object.")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addSimple parses {"field": "value"}.
func (p *PostPolicy) addSimple(raw json.RawMessage) error {
	members, ok := parseMembers(raw)
	if !ok {
		return invalidPolicy(invalidJSON)
	}
	if len(members) != 1 {
		return invalidPolicy("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
	}
	value, ok := jsonString(members[0].value)
	if !ok {
		return invalidPolicy("Invalid Simple-Condition: value must be a string.")
	}
	text := `["eq", ` + strconv.Quote("$"+members[0].name) + ", " + strconv.Quote(value) + "]"
	p.conditions = append(p.conditions, condition{field: strings.ToLower(members[0].name), value: value, text: text})
	return nil
}

// addOperation parses ["operator", argument, argument].
func (p *PostPolicy) addOperation(raw json.RawMessage) error {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return invalidPolicy(invalidJSON)
	}
	if len(list) == 0 {
		return invalidPolicy("Invalid Condition: missing operation identifier.")
	}
	operator, ok := jsonString(list[0])
	if !ok {
		return invalidPolicy(invalidJSON)
	}
	switch strings.ToLower(operator) {
	case "eq", "starts-with":
		return p.addMatch(operator, list[1:], string(raw))
	case "content-length-range":
		return p.addRange(list[1:])
	}
	return invalidPolicy("Invalid Condition: unknown operation '" + operator + "'.")
}

// addMatch parses the arguments of eq and starts-with: "$field" and a value.
func (p *PostPolicy) addMatch(operator string, arguments []json.RawMessage, text string) error {
	if len(arguments) != 2 {
		return invalidPolicy("Invalid " + operator + ": wrong number of arguments.")
	}
	field, ok := jsonString(arguments[0])
	value, valueOK := jsonString(arguments[1])
	if !ok || !valueOK {
		return invalidPolicy(invalidJSON)
	}
	field, ok = strings.CutPrefix(field, "$")
	if !ok {
		field = ""
	}
	p.conditions = append(p.conditions, condition{prefix: !strings.EqualFold(operator, "eq"), field: strings.ToLower(field), value: value, text: text})
	return nil
}

// addRange parses the arguments of content-length-range. Of several ranges, all count.
func (p *PostPolicy) addRange(arguments []json.RawMessage) error {
	if len(arguments) != 2 {
		return invalidPolicy(invalidNumbers)
	}
	low, ok := jsonSize(arguments[0])
	high, highOK := jsonSize(arguments[1])
	if !ok || !highOK {
		return invalidPolicy(invalidJSON)
	}
	p.minBytes, p.maxBytes = max(p.minBytes, low), min(p.maxBytes, high)
	return nil
}

// member is a member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// parseMembers parses a JSON object into its members in order, and reports whether it is one and nothing
// else. A map would hide a name that occurs twice.
func parseMembers(object []byte) (members []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	if delim, err := d.Token(); err != nil || delim != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		token, err := d.Token()
		name, isString := token.(string)
		m := member{name: name}
		if err != nil || !isString || d.Decode(&m.value) != nil {
			return nil, false
		}
		members = append(members, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return members, err == io.EOF
}

// jsonString returns the value of a JSON string, and whether raw is one.
func jsonString(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// jsonSize returns a number of bytes, which some clients write as a string.
func jsonSize(raw json.RawMessage) (int64, bool) {
	text := string(raw)
	if s, ok := jsonString(raw); ok {
		text = s
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// withoutEscapes replaces the two escapes that policies may have and JSON does not: \$ and \v.
func withoutEscapes(document []byte) []byte {
	out := make([]byte, 0, len(document))
	for i := 0; i < len(document); i++ {
		if document[i] != '\\' || i+1 == len(document) {
			out = append(out, document[i])
			continue
		}
		switch i++; document[i] {
		case '$':
			out = append(out, '$')
		case 'v':
			out = append(out, `\u000b`...)
		default:
			out = append(out, '\\', document[i])
		}
	}
	return out
}
