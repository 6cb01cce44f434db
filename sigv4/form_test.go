package sigv4

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// publishedPolicy is the policy of the example in "Browser-based upload using HTTP POST (using AWS signature
// version 4)", with the line ends of the page.
var publishedPolicy = base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(`{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}`, "\n", "\r\n")))

func publishedForm() map[string]string {
	return map[string]string{
		"key": "user/user1/cat.jpg", "acl": "public-read", "success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
		"content-type": "image/jpeg", "x-amz-meta-uuid": "14365123651274", "x-amz-server-side-encryption": "AES256", "x-amz-meta-tag": "",
		"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request", "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-date": "20151229T000000Z",
		"policy": publishedPolicy, "x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
	}
}

func formVerifier() *Verifier {
	v := exampleVerifier()
	v.Now = func() time.Time { return time.Date(2015, 12, 29, 1, 0, 0, 0, time.UTC) }
	return v
}

// TestPublishedForm: the form of AWS's example is accepted, and no longer with any change.
//
// Scenarios: S22.
func TestPublishedForm(t *testing.T) {
	v := formVerifier()
	id, _, err := v.VerifyForm("sigv4examplebucket", publishedForm())
	if err != nil || id.AccessKey() != exampleKey || id.Place() != Form || id.Version() != 4 || !id.Verified() || id.Anonymous() {
		t.Fatalf("%+v %v", id, err)
	}
	for name := range publishedForm() {
		f := publishedForm()
		f[name] += "x"
		if name == "content-type" || name == "key" || name == "x-amz-meta-tag" { // starts-with
			f[name] = "-" + f[name]
		}
		_, _, err := v.VerifyForm("sigv4examplebucket", f)
		if (err == nil) != (name == "x-amz-meta-tag") {
			t.Errorf("with another %s: %v", name, err)
		}
		delete(f, name)
		if id, _, err := v.VerifyForm("sigv4examplebucket", f); err == nil || id.Verified() {
			t.Errorf("without %s: %v", name, id)
		}
	}
	for name, want := range map[string]error{"bucket": nil, "x-ignore-this": nil, "file": nil, "x-amz-storage-class": s3err.AccessDenied, "signature": s3err.InvalidArgument, "x-amz-security-token": s3err.InvalidToken} {
		f := publishedForm()
		f[name] = "otherbucket"
		if _, _, err := v.VerifyForm("sigv4examplebucket", f); !errors.Is(err, want) && err != want {
			t.Errorf("with %s as well: %v, want %v", name, err, want)
		}
	}
	if _, _, err := v.VerifyForm("otherbucket", publishedForm()); !errors.Is(err, s3err.AccessDenied) {
		t.Errorf("in another bucket: %v", err)
	}
	for at, want := range map[string]bool{"2015-12-28T23:44:59Z": false, "2015-12-28T23:45:00Z": true, "2015-12-30T11:59:59Z": true, "2015-12-30T12:00:00Z": false} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		v.Now = func() time.Time { return now }
		if _, _, err := v.VerifyForm("sigv4examplebucket", publishedForm()); (err == nil) != want || err != nil && !errors.Is(err, s3err.AccessDenied) {
			t.Errorf("at %s: %v", at, err)
		}
	}
}

// policyOf returns a policy with these conditions.
func policyOf(conditions string) string {
	return base64.StdEncoding.EncodeToString([]byte(`{"expiration": "2015-12-30T12:00:00Z", "conditions": [` + conditions + `]}`))
}

// TestPolicies: conditions hold or not, and what is no policy is told apart from what does not hold.
func TestPolicies(t *testing.T) {
	v := formVerifier()
	fields := map[string]string{"key": "a/b", "content-type": "text/a, text/b"}
	const covered = `{"bucket": "b"}, ["starts-with", "$KEY", ""], ["Starts-With", "$content-Type", "text/"]`
	for name, c := range map[string]struct{ policy, code, message string }{
		"all conditions hold":           {policyOf(covered + `, ["eq", "$key", "a/b"], ["content-length-range", 0, "10"]`), "", ""},
		"white space everywhere":        {policyOf(" \n{ \"bucket\" : \"b\" } ,\t[ \"starts-with\" , \"$key\" , \"\" ], [ \"starts-with\",\"$content-type\",\"\" ] "), "", ""},
		"escapes of S3":                 {policyOf(covered + `, ["starts-with", "\$key", "a\u002fb"]`), "", ""},
		"an exact match that fails":     {policyOf(covered + `, ["eq","$key","a"]`), "AccessDenied", `Invalid according to Policy: Policy Condition failed: ["eq","$key","a"]`},
		"a simple one that fails":       {policyOf(covered + `, {"key":"a"}`), "AccessDenied", `Invalid according to Policy: Policy Condition failed: ["eq", "$key", "a"]`},
		"a prefix that fails":           {policyOf(covered + `, ["starts-with", "$key", "b"]`), "AccessDenied", ""},
		"one of a list fails":           {policyOf(covered + `, ["starts-with", "$content-type", "text/a"]`), "AccessDenied", ""},
		"a field that is not there":     {policyOf(covered + `, ["starts-with", "$acl", ""]`), "AccessDenied", ""},
		"a field without a $":           {policyOf(covered + `, ["eq", "key", "a/b"]`), "AccessDenied", ""},
		"another bucket":                {policyOf(`["starts-with", "$key", ""], ["starts-with", "$content-type", ""], {"bucket": "c"}`), "AccessDenied", ""},
		"two fields more":               {policyOf(`{"bucket": "b"}`), "AccessDenied", "Invalid according to Policy: Extra input fields: content-type, key"},
		"no bucket":                     {policyOf(`["starts-with", "$key", ""], ["starts-with", "$content-type", ""]`), "AccessDenied", "Invalid according to Policy: Extra input fields: bucket"},
		"not base64":                    {"invalid_base64", "InvalidPolicyDocument", "Invalid Policy: invalid Base64 encoding."},
		"nothing":                       {"", "InvalidPolicyDocument", "Invalid Policy: Expecting '{' but found End-of-Input"},
		"no JSON":                       {base64.StdEncoding.EncodeToString([]byte("{")), "InvalidPolicyDocument", "Invalid Policy: Invalid JSON."},
		"JSON and more":                 {base64.StdEncoding.EncodeToString([]byte(`{"expiration": "2015-12-30T12:00:00Z", "conditions": []} {}`)), "InvalidPolicyDocument", "Invalid Policy: Invalid JSON."},
		"a list":                        {base64.StdEncoding.EncodeToString([]byte("[]")), "InvalidPolicyDocument", "Invalid Policy: Invalid JSON."},
		"an unknown member":             {base64.StdEncoding.EncodeToString([]byte(`{"extra": 1}`)), "InvalidPolicyDocument", `Invalid Policy: Unexpected: "extra"`},
		"a member in capitals":          {base64.StdEncoding.EncodeToString([]byte(`{"EXPIRATION": "2015-12-30T12:00:00Z", "conditions": []}`)), "InvalidPolicyDocument", ""},
		"a member twice":                {base64.StdEncoding.EncodeToString([]byte(`{"conditions": [], "conditions": []}`)), "InvalidPolicyDocument", ""},
		"no expiration":                 {base64.StdEncoding.EncodeToString([]byte(`{"conditions": []}`)), "InvalidPolicyDocument", "Invalid Policy: Policy missing expiration."},
		"an expiration of another kind": {base64.StdEncoding.EncodeToString([]byte(`{"expiration": true, "conditions": []}`)), "InvalidPolicyDocument", "Invalid Policy: Invalid JSON."},
		"an expiration that is none":    {base64.StdEncoding.EncodeToString([]byte(`{"expiration": "tomorrow", "conditions": []}`)), "InvalidPolicyDocument", "Invalid Policy: Invalid 'expiration' value: 'tomorrow'"},
		"no conditions":                 {base64.StdEncoding.EncodeToString([]byte(`{"expiration": "2015-12-30T12:00:00Z"}`)), "InvalidPolicyDocument", "Invalid Policy: Policy missing conditions."},
		"conditions of another kind":    {base64.StdEncoding.EncodeToString([]byte(`{"expiration": "2015-12-30T12:00:00Z", "conditions": null}`)), "InvalidPolicyDocument", "Invalid Policy: Invalid 'conditions' value: must be a List."},
		"a condition of another kind":   {policyOf(`true`), "InvalidPolicyDocument", "Invalid Policy: Invalid condition test: must be a List or Object."},
		"an empty list":                 {policyOf(`[]`), "InvalidPolicyDocument", "Invalid Policy: Invalid Condition: missing operation identifier."},
		"an empty object":               {policyOf(`{}`), "InvalidPolicyDocument", ""},
		"two in one object":             {policyOf(`{"key": "a", "acl": "b"}`), "InvalidPolicyDocument", "Invalid Policy: Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."},
		"one twice in one object":       {policyOf(`{"key": "a", "key": "a/b"}`), "InvalidPolicyDocument", ""},
		"a value that is no text":       {policyOf(`{"key": 1}`), "InvalidPolicyDocument", "Invalid Policy: Invalid Simple-Condition: value must be a string."},
		"an unknown operator":           {policyOf(`["ends-with", "$key", "b"]`), "InvalidPolicyDocument", "Invalid Policy: Invalid Condition: unknown operation 'ends-with'."},
		"an operator that is no text":   {policyOf(`[1, "$key", "b"]`), "InvalidPolicyDocument", ""},
		"too few arguments":             {policyOf(`["eq", "$key"]`), "InvalidPolicyDocument", "Invalid Policy: Invalid eq: wrong number of arguments."},
		"an argument that is no text":   {policyOf(`["eq", "$key", 1]`), "InvalidPolicyDocument", "Invalid Policy: Invalid JSON."},
		"a range with one end":          {policyOf(`["content-length-range", 0]`), "InvalidPolicyDocument", ""},
		"a negative range":              {policyOf(`["content-length-range", -1, 0]`), "InvalidPolicyDocument", ""},
		"a range with a fraction":       {policyOf(`["content-length-range", 0, 1.5]`), "InvalidPolicyDocument", ""},
		"a range of words":              {policyOf(`["content-length-range", "no", "number"]`), "InvalidPolicyDocument", ""},
	} {
		f := maps.Clone(fields)
		f["policy"], f["awsaccesskeyid"] = c.policy, exampleKey
		f["signature"] = signedV2(c.policy)
		v.V2 = V2Presigned
		id, _, err := v.VerifyForm("b", f)
		var coded *s3err.Error
		switch {
		case c.code == "" && (err != nil || id.Version() != 2):
			t.Errorf("%s: %v", name, err)
		case c.code != "" && (!errors.As(err, &coded) || coded.Code != c.code || c.message != "" && coded.Message != c.message):
			t.Errorf("%s: %v, want %s %s", name, err, c.code, c.message)
		}
	}
}

func signedV2(policy string) string {
	sum := hmac.New(sha1.New, []byte(exampleSecret))
	sum.Write([]byte(policy))
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// TestFormsOfVersion2: they need the setting, and the right signature.
func TestFormsOfVersion2(t *testing.T) {
	v := formVerifier()
	policy := policyOf(`{"bucket": "b"}, {"key": "k"}`)
	f := map[string]string{"key": "k", "policy": policy, "awsaccesskeyid": exampleKey, "signature": signedV2(policy)}
	if _, _, err := v.VerifyForm("b", f); !errors.Is(err, s3err.InvalidRequest) {
		t.Errorf("switched off: %v", err)
	}
	v.V2 = V2Presigned
	if id, _, err := v.VerifyForm("b", f); err != nil || id.AccessKey() != exampleKey || id.Version() != 2 {
		t.Errorf("%+v %v", id, err)
	}
	for name, want := range map[string]error{"policy": s3err.SignatureDoesNotMatch, "awsaccesskeyid": s3err.SignatureDoesNotMatch, "signature": s3err.SignatureDoesNotMatch} {
		changed := maps.Clone(f)
		changed[name] = "A" + changed[name]
		if _, _, err := v.VerifyForm("b", changed); !errors.Is(err, want) {
			t.Errorf("another %s: %v", name, err)
		}
		delete(changed, name)
		if _, _, err := v.VerifyForm("b", changed); !errors.Is(err, s3err.InvalidArgument) {
			t.Errorf("no %s: %v", name, err)
		}
	}
}

// TestFormsWithoutCredentials are anonymous, unless they have a part of a credential.
func TestFormsWithoutCredentials(t *testing.T) {
	v := formVerifier()
	if id, p, err := v.VerifyForm("b", map[string]string{"key": "k"}); err != nil || !id.Anonymous() || p == nil {
		t.Errorf("%+v %v", id, err)
	}
	for _, name := range []string{"policy", "x-amz-signature", "x-amz-date", "x-amz-credential", "x-amz-algorithm", "x-amz-security-token", "signature", "awsaccesskeyid"} {
		if id, _, err := v.VerifyForm("b", map[string]string{"key": "k", name: ""}); err == nil || id.Verified() {
			t.Errorf("%s alone: %+v", name, id)
		}
	}
}

// TestContentLengthRange: both ends belong to the range, and of several ranges all count.
func TestContentLengthRange(t *testing.T) {
	p, err := parsePolicy(policyOf(`["content-length-range", 2, 9], ["content-length-range", 0, 5]`))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int64]error{1: s3err.EntityTooSmall, 2: nil, 5: nil, 6: s3err.EntityTooLarge} {
		payload, err := p.Payload(strings.NewReader(""), n)
		if err != want && !errors.Is(err, want) || err == nil && (payload.Length != n || payload.Mode != Unsigned) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// FuzzPostPolicy: a policy is accepted only if its conditions name every field of the form.
func FuzzPostPolicy(f *testing.F) {
	f.Add(publishedPolicy, "x-amz-meta-tag", "x")
	f.Add(policyOf(`{"bucket": "b"}, ["starts-with", "$key", ""], ["eq", "$acl", "x"], ["content-length-range", 1, 2]`), "acl", "x")
	f.Add(policyOf(`["starts-with", "\$\v", "\\\$"], {"a": {}}, [[]]`), "acl", "x")
	f.Fuzz(func(t *testing.T, encoded, name, value string) {
		p, err := parsePolicy(encoded)
		if err != nil {
			var coded *s3err.Error
			if !errors.As(err, &coded) || coded.Code != "InvalidPolicyDocument" {
				t.Fatalf("%q: %v", encoded, err)
			}
			return
		}
		name = strings.ToLower(name)
		form := form{bucket: "b", fields: map[string]string{"key": "k", name: value}}
		if p.admits(form, p.expires) == nil {
			t.Fatalf("%q admits after its end", encoded)
		}
		if p.admits(form, p.expires.Add(-1)) != nil {
			return
		}
		named := map[string]bool{}
		for _, c := range p.conditions {
			named[c.field] = true
		}
		if !named["bucket"] || form.fields["key"] != "" && !named["key"] && name != "key" || !named[name] && !exempt(name) && name != "bucket" {
			t.Fatalf("%q admits %q", encoded, name)
		}
	})
}

// TestMismatchOfAForm: the error of a wrong signature repeats what the client has signed, and says the same
// whether the key exists or not.
func TestMismatchOfAForm(t *testing.T) {
	v := formVerifier()
	v.V2 = V2Presigned
	v4 := publishedForm()
	v4["policy"], v4["x-amz-signature"] = "ab<", "no"
	unknown := maps.Clone(v4)
	unknown["x-amz-credential"] = strings.Replace(v4["x-amz-credential"], exampleKey, "UNKNOWN", 1)
	for name, c := range map[string]struct {
		key    string
		fields map[string]string
	}{
		"version 4":   {exampleKey, v4},
		"unknown key": {"UNKNOWN", unknown},
		"version 2":   {exampleKey, map[string]string{"key": "k", "policy": "ab<", "awsaccesskeyid": exampleKey, "signature": "no"}},
	} {
		_, _, err := v.VerifyForm("b", c.fields)
		var coded *s3err.Error
		want := [][2]string{{"AWSAccessKeyId", c.key}, {"StringToSign", "ab<"}, {"SignatureProvided", "no"}, {"StringToSignBytes", "61 62 3c"}}
		if !errors.As(err, &coded) || coded.Code != string(s3err.SignatureDoesNotMatch) || !slices.Equal(coded.Detail, want) {
			t.Errorf("%s: %+v", name, err)
		}
	}
}
