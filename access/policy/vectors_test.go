package policy

import (
	"fmt"
	"strings"
	"testing"
)

const (
	vectorBucket = "arn:aws:s3vectors:us-east-1:000000000000:bucket/movies"
	vectorIndex  = vectorBucket + "/index/plots"
)

// TestVectorResources: resources of S3 Vectors and of S3 never match each other, and wildcards stand for any
// part of an ARN.
func TestVectorResources(t *testing.T) {
	for _, c := range []struct {
		action, resource string
		r                Request
		want             bool
	}{
		{"s3vectors:*", "*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, true},
		{"S3Vectors:getindex", vectorIndex, Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, true},
		{"s3vectors:Get*", vectorIndex, Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, true},
		{"s3vectors:Get*", vectorIndex, Request{Action: "s3vectors:PutVectors", Vectors: vectorIndex}, false},
		{"s3vectors:*", vectorBucket, Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, false},
		{"s3vectors:*", vectorBucket, Request{Action: "s3vectors:GetVectorBucket", Vectors: vectorBucket}, true},
		{"s3vectors:*", vectorBucket + "/index/*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, true},
		{"s3vectors:*", vectorBucket + "/*", Request{Action: "s3vectors:GetVectorBucket", Vectors: vectorBucket}, false},
		{"s3vectors:*", "arn:aws:s3vectors:*:*:bucket/movies*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, true},
		{"s3vectors:*", "arn:aws:s3vectors:*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, true},
		{"s3vectors:*", "arn:aws:s3vectors:eu-west-1:*:bucket/*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, false},
		{"s3vectors:*", "arn:aws:s3vectors:*:111111111111:bucket/*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, false},
		{"s3vectors:ListVectorBuckets", "*", Request{Action: "s3vectors:ListVectorBuckets", Vectors: AllVectors}, true},
		{"s3vectors:ListVectorBuckets", "arn:aws:s3vectors:*", Request{Action: "s3vectors:ListVectorBuckets", Vectors: AllVectors}, false},
		{"*", "arn:aws:s3:::*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, false},
		{"*", "arn:aws:s3:::movies*", Request{Action: "s3vectors:GetVectorBucket", Vectors: vectorBucket}, false},
		{"*", "arn:aws:s3vectors:*", Request{Action: "s3:GetObject", Bucket: "movies", Key: "k"}, false},
		{"*", "arn:aws:s3vectors:*", Request{Action: "s3:ListAllMyBuckets"}, false},
		{"*", "*", Request{Action: "s3:GetObject", Bucket: "movies", Key: "k"}, true},
		{"s3:*", "*", Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}, false},
		{"s3vectors:*", "*", Request{Action: "s3:GetObject", Bucket: "movies", Key: "k"}, false},
		{"s3vectors:*", "*", Request{Action: Unlisted, Bucket: "b"}, false},
	} {
		if got := mustParse(t, statementOf("Allow", c.action, c.resource)).Allows(c.r); got != c.want {
			t.Errorf("Allow %s on %s: %+v is %t", c.action, c.resource, c.r, got)
		}
		if got := mustParse(t, fmt.Sprintf(`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":%q,"Resource":%q}]}`, c.action, c.resource)).Allows(c.r); got == c.want {
			t.Errorf("Deny %s on %s: %+v is %t", c.action, c.resource, c.r, got)
		}
	}
	if !Everything.Allows(Request{Action: "s3vectors:GetIndex", Vectors: vectorIndex}) || !Everything.Allows(Request{Action: "s3vectors:ListVectorBuckets", Vectors: AllVectors}) {
		t.Error("everything is not everything")
	}
	for _, resource := range []string{"arn:aws:s3vectors:", "arn:aws:s3vectors:us-east-1:bucket/a", "arn:aws:s3vectors:us-east-1:000000000000:index/a", "arn:aws:s3vectors:::bucket/a", "arn:aws:s3vectors:r:1:bucket/", "arn:aws-cn:s3vectors:r:1:bucket/a", "arn:aws:s3vectors:r:1:bucket/${x}"} {
		if _, err := Parse([]byte(statementOf("Allow", "*", resource))); err == nil || !strings.HasPrefix(err.Error(), "statement 1: Resource: ") {
			t.Errorf("%s: %v", resource, err)
		}
	}
}

func bucketStatementOf(effect, principal, action, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Principal":%s,"Action":%q,"Resource":%q}`, effect, principal, action, resource)
}

func mustParseBucket(t testing.TB, statements ...string) *BucketPolicy {
	t.Helper()
	p, err := ParseBucket([]byte(`{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`), vectorBucket, "000000000000")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	alice = `{"AWS":"arn:aws:iam::000000000000:user/alice"}`
	both  = `{"AWS":["arn:aws:iam::000000000000:user/bob","arn:aws:iam::000000000000:user/alice"]}`
)

// TestBucketPolicy: the policy of the user or that of the bucket has to allow a request, and none may deny it.
func TestBucketPolicy(t *testing.T) {
	query := Request{Action: "s3vectors:QueryVectors", Vectors: vectorIndex}
	nothing := mustParse(t, statementOf("Allow", "s3:GetObject", "*"))
	all := mustParse(t, statementOf("Allow", "*", "*"))
	never := mustParse(t, statementOf("Deny", "s3vectors:QueryVectors", "*"))
	for _, c := range []struct {
		name   string
		user   *Policy
		bucket *BucketPolicy
		want   bool
	}{
		{"neither allows", nothing, nil, false},
		{"the user's policy allows", all, nil, true},
		{"a bucket policy for the user", nothing, mustParseBucket(t, bucketStatementOf("Allow", alice, "s3vectors:QueryVectors", vectorIndex)), true},
		{"for several users", nothing, mustParseBucket(t, bucketStatementOf("Allow", both, "s3vectors:*", "*")), true},
		{"for everyone", nothing, mustParseBucket(t, bucketStatementOf("Allow", `"*"`, "s3vectors:*", vectorBucket+"/index/*")), true},
		{"for everyone, in the other form", nothing, mustParseBucket(t, bucketStatementOf("Allow", `{"AWS":"*"}`, "*", "*")), true},
		{"for another user", nothing, mustParseBucket(t, bucketStatementOf("Allow", `{"AWS":"arn:aws:iam::000000000000:user/alic"}`, "*", "*")), false},
		{"for another action", nothing, mustParseBucket(t, bucketStatementOf("Allow", alice, "s3vectors:Get*", "*")), false},
		{"for another index", nothing, mustParseBucket(t, bucketStatementOf("Allow", alice, "s3vectors:*", vectorIndex+"2")), false},
		{"for the bucket only", nothing, mustParseBucket(t, bucketStatementOf("Allow", alice, "s3vectors:*", vectorBucket)), false},
		{"the bucket policy denies", all, mustParseBucket(t, bucketStatementOf("Deny", alice, "s3vectors:*", "*")), false},
		{"it denies another", all, mustParseBucket(t, bucketStatementOf("Deny", `{"AWS":"arn:aws:iam::000000000000:user/bob"}`, "s3vectors:*", "*")), true},
		{"it allows and denies", nothing, mustParseBucket(t, bucketStatementOf("Allow", alice, "*", "*"), bucketStatementOf("Deny", `"*"`, "s3vectors:QueryVectors", "*")), false},
		{"the user's policy denies", never, mustParseBucket(t, bucketStatementOf("Allow", alice, "*", "*")), false},
		{"no rights at all", nil, mustParseBucket(t, bucketStatementOf("Allow", `"*"`, "*", "*")), false},
		{"a temporary key that may not", mustParse(t, statementOf("Allow", "s3:*", "*")).Within(all), mustParseBucket(t, bucketStatementOf("Allow", alice, "*", "*")), false},
		{"a temporary key that may, of a user who may not", mustParse(t, statementOf("Allow", "s3vectors:*", "*")).Within(nothing), mustParseBucket(t, bucketStatementOf("Allow", alice, "*", "*")), true},
		{"a temporary key of a user who must not", mustParse(t, statementOf("Allow", "s3vectors:*", "*")).Within(never), mustParseBucket(t, bucketStatementOf("Allow", alice, "*", "*")), false},
		{"a temporary key of a user who may", mustParse(t, statementOf("Allow", "s3vectors:*", "*")).Within(all), nil, true},
	} {
		if got := c.user.AllowsIn(c.bucket, "alice", query); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestBucketPolicyRefused: what is not understood is refused by name.
func TestBucketPolicyRefused(t *testing.T) {
	for name, c := range map[string]struct{ statement, want string }{
		"no principal":            {`{"Effect":"Allow","Action":"*","Resource":"*"}`, "Principal: is missing"},
		"null":                    {bucketStatementOf("Allow", "null", "*", "*"), "Principal: is missing"},
		"a string":                {bucketStatementOf("Allow", `"alice"`, "*", "*"), "Principal: must be"},
		"a list":                  {bucketStatementOf("Allow", `["*"]`, "*", "*"), "Principal: must be"},
		"no users":                {bucketStatementOf("Allow", `{"AWS":[]}`, "*", "*"), "at least one user"},
		"a service":               {bucketStatementOf("Allow", `{"Service":"s3.amazonaws.com"}`, "*", "*"), "other kinds"},
		"both":                    {bucketStatementOf("Allow", `{"AWS":"*","Service":"x"}`, "*", "*"), "other kinds"},
		"a role":                  {bucketStatementOf("Allow", `{"AWS":"arn:aws:iam::000000000000:role/r"}`, "*", "*"), "user/NAME"},
		"the account":             {bucketStatementOf("Allow", `{"AWS":"arn:aws:iam::000000000000:root"}`, "*", "*"), "user/NAME"},
		"an account ID":           {bucketStatementOf("Allow", `{"AWS":"000000000000"}`, "*", "*"), "user/NAME"},
		"another account":         {bucketStatementOf("Allow", `{"AWS":"arn:aws:iam::111111111111:user/a"}`, "*", "*"), "user/NAME"},
		"a wildcard":              {bucketStatementOf("Allow", `{"AWS":"arn:aws:iam::000000000000:user/a*"}`, "*", "*"), "user/NAME"},
		"NotPrincipal":            {`{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}`, "NotPrincipal is not supported"},
		"an action of S3":         {bucketStatementOf("Allow", `"*"`, "s3:GetObject", "*"), "no action of S3 Vectors"},
		"an unknown action":       {bucketStatementOf("Allow", `"*"`, "s3vectors:Explode", "*"), "matches no action"},
		"another bucket":          {bucketStatementOf("Allow", `"*"`, "*", vectorBucket+"2"), "Resource:"},
		"a resource of S3":        {bucketStatementOf("Allow", `"*"`, "*", "arn:aws:s3:::movies"), "Resource:"},
		"a condition":             {`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"StringLike":{"s3:prefix":"x"}}}`, "Condition:"},
		"a principal given twice": {`{"Effect":"Allow","Principal":"*","principal":{"AWS":"*"},"Action":"*","Resource":"*"}`, "twice"},
	} {
		if _, err := ParseBucket([]byte(`{"Statement":`+c.statement+`}`), vectorBucket, "000000000000"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// FuzzParseBucket: no document makes the parser or the evaluator panic, and an accepted one gives a user
// without an own policy nothing.
func FuzzParseBucket(f *testing.F) {
	f.Add(`{"Statement":` + bucketStatementOf("Allow", both, "s3vectors:*", "*") + `}`)
	f.Add(`{"Statement":[` + bucketStatementOf("Deny", `"*"`, "*", vectorIndex) + `]}`)
	f.Fuzz(func(t *testing.T, document string) {
		p, err := ParseBucket([]byte(document), vectorBucket, "000000000000")
		if err != nil {
			return
		}
		r := Request{Action: "s3vectors:QueryVectors", Vectors: vectorIndex}
		Everything.AllowsIn(p, "alice", r)
		if (*Policy)(nil).AllowsIn(p, "alice", r) {
			t.Fatal("nobody has rights")
		}
	})
}
