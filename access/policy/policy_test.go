package policy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func mustParse(t testing.TB, document string) *Policy {
	t.Helper()
	p, err := Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func statementOf(effect, action, resource string) string {
	return fmt.Sprintf(`{"Statement":{"Effect":%q,"Action":%q,"Resource":%q}}`, effect, action, resource)
}

// TestDecide: wildcards work, Deny takes precedence, and keys are compared byte by
// byte.
//
// Scenarios: S28, S29.
func TestDecide(t *testing.T) {
	const tenant = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["S3:getobject","s3:Put*"],"Resource":["arn:aws:s3:::data/a/*","arn:aws:s3:::logs-?/x"]},
		{"Effect":"Deny","Action":"s3:PutObject","Resource":"arn:aws:s3:::data/a/locked/*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::data","Condition":{"StringLike":{"s3:prefix":["a/*","a"]}}},
		{"Effect":"Deny","Action":"s3:ListBucket","Resource":"*","Condition":{"StringNotEquals":{"s3:delimiter":"/"}}}]}`
	p := mustParse(t, tenant)
	for _, c := range []struct {
		r    Request
		want Decision
	}{
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "a/k"}, Allowed},
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "a/"}, Allowed},
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "a"}, Silent},
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "A/k"}, Silent},
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "b/../a/k"}, Silent},
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "a/../b/k"}, Allowed}, // a key of that name, not a path
		{Request{Action: "s3:GetObject", Bucket: "data", Key: "/a/k"}, Silent},
		{Request{Action: "s3:GetObject", Bucket: "data2", Key: "a/k"}, Silent},
		{Request{Action: "s3:GetObject", Bucket: "data"}, Silent},
		{Request{Action: "s3:DeleteObject", Bucket: "data", Key: "a/k"}, Silent},
		{Request{Action: "s3:PutObjectTagging", Bucket: "data", Key: "a/locked/k"}, Allowed},
		{Request{Action: "s3:PutObject", Bucket: "data", Key: "a/locked/k"}, Denied},
		{Request{Action: "s3:GetObject", Bucket: "logs-1", Key: "x"}, Allowed},
		{Request{Action: "s3:GetObject", Bucket: "logs-12", Key: "x"}, Silent},
		{Request{Action: "s3:ListBucket", Bucket: "data", Listing: true, Prefix: "a/b", Delimiter: "/"}, Allowed},
		{Request{Action: "s3:ListBucket", Bucket: "data", Listing: true, Prefix: "a/b"}, Denied},
		{Request{Action: "s3:ListBucket", Bucket: "data", Listing: true, Delimiter: "/"}, Silent},
		{Request{Action: "s3:ListBucket", Bucket: "data"}, Denied}, // HeadBucket: no delimiter, so the Deny applies
		{Request{Action: Unlisted, Bucket: "data", Key: "a/k"}, Silent},
		{Request{Action: "s3:ListAllMyBuckets"}, Silent},
	} {
		if got := p.Decide(c.r); got != c.want {
			t.Errorf("%+v: %d, want %d", c.r, got, c.want)
		}
	}
	if (*Policy)(nil).Allows(Request{Action: "s3:GetObject", Bucket: "data", Key: "a"}) {
		t.Error("no policy allows")
	}
	if !Everything.Allows(Request{Action: Unlisted, Bucket: "b"}) || !Everything.Allows(Request{Action: "s3:ListAllMyBuckets"}) {
		t.Error("everything is not everything")
	}
	if mustParse(t, statementOf("Allow", "s3:*", "*")).Allows(Request{Action: Unlisted, Bucket: "b"}) {
		t.Error("s3:* allows what is not S3's")
	}
}

// TestWithin: a temporary key has only the rights that both its user's policy and its own
// policy allow.
func TestWithin(t *testing.T) {
	outer := mustParse(t, statementOf("Allow", "s3:*", "arn:aws:s3:::data/*"))
	inner := mustParse(t, statementOf("Allow", "s3:GetObject", "*")).Within(outer)
	for _, c := range []struct {
		action, bucket string
		want           bool
	}{{"s3:GetObject", "data", true}, {"s3:GetObject", "other", false}, {"s3:PutObject", "data", false}} {
		if got := inner.Allows(Request{Action: c.action, Bucket: c.bucket, Key: "k"}); got != c.want {
			t.Errorf("%s %s: %t", c.action, c.bucket, got)
		}
	}
	if inner.Within(nil).Allows(Request{Action: "s3:GetObject", Bucket: "other", Key: "k"}) != true {
		t.Error("within nothing narrows")
	}
}

// TestRefused: unsupported elements are refused by name.
//
// Scenarios: S38.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ document, want string }{
		"not JSON":             {`{"Statement"`, "not valid JSON"},
		"empty":                {``, "no policy"},
		"a list":               {`[]`, "not supported by this gateway"},
		"two documents":        {`{} {}`, "after the end"},
		"no statement":         {`{"Version":"2012-10-17"}`, "no Statement"},
		"version":              {`{"Version":"2020","Statement":[]}`, "Version"},
		"unknown field":        {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Extra":1}}`, "Extra"},
		"NotAction":            {`{"Statement":{"Effect":"Allow","NotAction":"s3:GetObject","Resource":"*"}}`, "NotAction is not supported"},
		"Principal":            {`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`, "Principal is not supported"},
		"effect":               {statementOf("allow", "*", "*"), "Effect"},
		"effect twice":         {`{"Statement":{"Effect":"Deny","effect":"Allow","Action":"*","Resource":"*"}}`, "twice"},
		"no action":            {`{"Statement":{"Effect":"Allow","Resource":"*"}}`, "Action: is missing"},
		"no resource":          {`{"Statement":{"Effect":"Allow","Action":"*"}}`, "Resource: is missing"},
		"unknown action":       {statementOf("Allow", "s3:GetObjects", "*"), "matches no action"},
		"another service":      {statementOf("Allow", "iam:*", "*"), "matches no action"},
		"resource without arn": {statementOf("Allow", "*", "bucket/*"), "must be"},
		"empty resource":       {statementOf("Allow", "*", arn), "must be"},
		"policy variable":      {statementOf("Allow", "*", arn+"b/${aws:username}/*"), "variable"},
		"condition operator":   {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"1.2.3.4"}}}}`, "IpAddress"},
		"condition key":        {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:Referer":"x"}}}}`, "aws:Referer"},
		"nested":               {strings.Repeat("[", 50) + strings.Repeat("]", 50), "nested"},
		"long":                 {strings.Repeat(" ", MaxBytes+1), "limit"},
	} {
		if _, err := Parse([]byte(c.document)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestCheckOnly: CheckOnly limits what a policy may allow, as for anonymous requests.
func TestCheckOnly(t *testing.T) {
	read := []string{"s3:GetObject", "s3:ListBucket"}
	for document, ok := range map[string]bool{
		statementOf("Allow", "s3:GetObject", "*"): true,
		statementOf("Deny", "s3:*", "*"):          true,
		statementOf("Allow", "s3:Get*", "*"):      false,
		statementOf("Allow", "*", arn+"b/*"):      false,
	} {
		if err := mustParse(t, document).CheckOnly(read...); ok != (err == nil) {
			t.Errorf("%s: %v", document, err)
		}
	}
}

// TestAgainstReference compares the evaluator with a naive implementation of the
// documented rules.
//
// Scenarios: S29.
func TestAgainstReference(t *testing.T) {
	random := testkit.Random(t)
	pick := func(from ...string) string { return testkit.Pick(random, from...) }
	text := func(alphabet string) string {
		var b strings.Builder
		for range 1 + random.IntN(5) {
			b.WriteString(pick(strings.Split(alphabet, "")...))
		}
		return b.String()
	}
	decided := map[Decision]int{}
	for i := range 4_000 {
		var rules []written
		var documents []string
		for range 1 + random.IntN(3) {
			effect, action, resource := pick("Allow", "Allow", "Deny"), pick("s3:GetObject", "s3:Get*", "*", "s3:?etObject", "s3:PutObject"), "b/"+text("ab/*?ä")
			rules = append(rules, written{effect == "Deny", action, resource})
			documents = append(documents, fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q}`, effect, action, arn+resource))
		}
		p := mustParse(t, `{"Statement":[`+strings.Join(documents, ",")+`]}`)
		r := Request{Action: pick("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), Bucket: "b", Key: text("ab/ä")}
		want := reference(rules, r)
		decided[want]++
		if got := p.Decide(r); got != want {
			t.Fatalf("request %d: %+v under %v: %d, want %d", i, r, documents, got, want)
		}
	}
	for _, d := range []Decision{Silent, Allowed, Denied} {
		if decided[d] < 100 {
			t.Errorf("decision %d came up %d times", d, decided[d])
		}
	}
}

// written is a statement before parsing.
type written struct {
	deny             bool
	action, resource string
}

func reference(statements []written, r Request) Decision {
	match := func(pattern, s string) bool {
		expression := strings.NewReplacer(`\*`, `(?s:.*)`, `\?`, `(?s:.)`).Replace(regexp.QuoteMeta(pattern))
		return regexp.MustCompile("^" + expression + "$").MatchString(s)
	}
	decision := Silent
	for _, s := range statements {
		if match(s.action, r.Action) && match(s.resource, r.Bucket+"/"+r.Key) {
			if s.deny {
				return Denied
			}
			decision = Allowed
		}
	}
	return decision
}

// FuzzParse: no document makes the parser or the evaluator panic, and a policy that denies
// everything allows nothing.
func FuzzParse(f *testing.F) {
	f.Add(statementOf("Allow", "s3:*", arn+"b/*"), "b", "k")
	f.Add(`{"Statement":[{"Effect":"Allow","Action":["*"],"Resource":["*"],"Condition":{"StringNotLike":{"s3:prefix":"a*"}}}]}`, "b", "")
	f.Add(`{"Statement":{"Effect":"Deny","effect":"Allow"}}`, "", "")
	f.Fuzz(func(t *testing.T, document, bucket, key string) {
		p, err := Parse([]byte(document))
		if err != nil {
			return
		}
		r := Request{Action: "s3:GetObject", Bucket: bucket, Key: key}
		p.Decide(r)
		r.Listing = true
		p.Decide(r)
		p.statements = append(p.statements, statement{deny: true, actions: actionsLike("*"), resources: []string{"*"}})
		if p.Allows(r) {
			t.Fatal("a Deny for everything was overruled")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	p := mustParse(b, `{"Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::data/team/*"},{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::data/team/secret/*"}]}`)
	r := Request{Action: "s3:GetObject", Bucket: "data", Key: "team/2026/11/part-00001.parquet"}
	b.ReportAllocs()
	for b.Loop() {
		if !p.Allows(r) {
			b.Fatal("denied")
		}
	}
}
