package sigv4

import (
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// VerifyForm authenticates a browser upload ("POST Object") by the policy among its fields, signed with
// signature version 4 or, where V2 says so, 2. bucket is the bucket of the URL: a field of that name counts
// for nothing. fields are all fields before the file by lower-case name, with variables expanded.
//
// A form without any credentials gets the anonymous Identity. Errors are *s3err.Error. The signature is
// judged before the policy is read, so only a client of the key's owner learns what the policy says.
func (v *Verifier) VerifyForm(bucket string, fields map[string]string) (Identity, *PostPolicy, error) {
	f := form{bucket: bucket, fields: fields}
	v4, v2 := f.hasAny(fieldAlgorithm, fieldCredential, fieldDate, fieldSignature), f.hasAny(fieldKeyV2, fieldSignatureV2)
	var id Identity
	var err error
	switch now := v.now(); {
	case v4 && v2:
		return Identity{}, nil, s3err.InvalidArgument.With("Only one auth mechanism allowed; a form has either the fields of signature version 4 or those of version 2")
	case v2 && !v.V2.Forms():
		return Identity{}, nil, s3err.InvalidRequest.With(badMechanism)
	case v2:
		id, err = v.verifyFormV2(f, now)
	case v4 || f.hasAny(fieldPolicy):
		id, err = v.verifyFormV4(f, now)
	case f.hasAny(fieldToken):
		return Identity{}, nil, s3err.AccessDenied // a token without a signature is not a credential
	default:
		return Identity{verified: true}, unlimited(), nil
	}
	if err != nil {
		return Identity{}, nil, err
	}
	policy, err := parsePolicy(fields[fieldPolicy])
	if err == nil {
		err = policy.admits(f, v.now())
	}
	if err != nil {
		return Identity{}, nil, err
	}
	return id, policy, nil
}

// The fields of a form that authenticate it, in lower case.
const (
	fieldPolicy      = "policy"
	fieldAlgorithm   = "x-amz-algorithm"
	fieldCredential  = "x-amz-credential"
	fieldDate        = "x-amz-date"
	fieldSignature   = "x-amz-signature"
	fieldToken       = "x-amz-security-token"
	fieldKeyV2       = "awsaccesskeyid"
	fieldSignatureV2 = "signature"
)

// FormCredential reports whether a field of a form, by its lower-case name, belongs to its signature
// instead of describing the object.
func FormCredential(field string) bool {
	switch field {
	case fieldPolicy, fieldAlgorithm, fieldCredential, fieldDate, fieldSignature, fieldToken, fieldKeyV2, fieldSignatureV2:
		return true
	default:
		return false
	}
}

// form is a browser upload up to its file.
type form struct {
	bucket string
	fields map[string]string
}

func (f form) hasAny(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := f.fields[name]; return ok })
}

// needs returns the error for the first of the named fields that is missing.
func (f form) needs(names ...string) error {
	for _, name := range names {
		if !f.hasAny(name) {
			return MissingField(name)
		}
	}
	return nil
}

// MissingField returns the error of a form without a field that it must have.
func MissingField(name string) error {
	return s3err.InvalidArgument.With("Bucket POST must contain a field named '"+name+"'.  If it is specified, please check the order of the fields.").
		About("ArgumentName", name).About("ArgumentValue", "")
}

// verifyFormV4 verifies version 4: the signature of the policy as it was sent ("Authenticating requests in
// browser-based uploads using POST"). The policy says until when it holds, so the date is only compared
// with the scope, and must not lie in the future.
func (v *Verifier) verifyFormV4(f form, now time.Time) (Identity, error) {
	if err := f.needs(fieldPolicy, fieldAlgorithm, fieldCredential, fieldDate, fieldSignature); err != nil {
		return Identity{}, err
	}
	if kind := f.fields[fieldAlgorithm]; kind != algorithm {
		return Identity{}, s3err.InvalidArgument.With("Only AWS4-HMAC-SHA256 is supported").About("ArgumentName", "X-Amz-Algorithm").About("ArgumentValue", kind)
	}
	c := credential{place: Form, service: service, time: f.fields[fieldDate], token: f.fields[fieldToken], signature: f.fields[fieldSignature]}
	at, ok := parseTime(c.time)
	if !ok {
		return Identity{}, s3err.InvalidArgument.With("X-Amz-Date must be formated via ISO8601 Long format").About("ArgumentName", "X-Amz-Date").About("ArgumentValue", c.time)
	}
	if err := c.parseScope(f.fields[fieldCredential], v.Region); err != nil {
		return Identity{}, aboutCredential(err, f.fields[fieldCredential])
	}
	switch {
	case c.day != c.time[:8]:
		return Identity{}, aboutCredential(c.scopeError("Invalid credential date "+strconv.Quote(c.day)+". This date is not the same as X-Amz-Date: "+strconv.Quote(c.time[:8])+"."), f.fields[fieldCredential])
	case at.Sub(now) > maxSkew:
		return Identity{}, s3err.AccessDenied.With("Request is not valid yet.")
	}
	stored, known := v.lookup(c.accessKey)
	key := v.signing.derive(stored.Secret, c.day, v.Region, service)
	want := hex.EncodeToString(key.appendSum(nil, []byte(f.fields[fieldPolicy])))
	if !hmac.Equal([]byte(want), []byte(c.signature)) || !known {
		return Identity{}, f.mismatch(&c)
	}
	return Identity{c.accessKey, Form, 4, true}, stored.admits(c.token, now)
}

// aboutCredential adds the field with the scope to an error about it.
func aboutCredential(err error, value string) error {
	var coded *s3err.Error
	if errors.As(err, &coded) {
		return coded.About("ArgumentName", fieldCredential).About("ArgumentValue", value)
	}
	return err
}

// verifyFormV2 verifies version 2: HMAC-SHA1 over the policy as it was sent ("Signing and authenticating
// REST requests", browser-based uploads).
func (v *Verifier) verifyFormV2(f form, now time.Time) (Identity, error) {
	if err := f.needs(fieldPolicy, fieldKeyV2, fieldSignatureV2); err != nil {
		return Identity{}, err
	}
	c := credential{accessKey: f.fields[fieldKeyV2], signature: f.fields[fieldSignatureV2], token: f.fields[fieldToken]}
	err := v.checkSignatureV2(&c, f.fields[fieldPolicy], now)
	if errors.Is(err, s3err.SignatureDoesNotMatch) {
		err = f.mismatch(&c)
	}
	return Identity{c.accessKey, Form, 2, true}, err
}

// mismatch returns the error of a form whose signature is not that of its policy. Like S3 it repeats what was
// signed, which for a form is what the client has sent, and nothing else.
func (f form) mismatch(c *credential) error {
	policy := f.fields[fieldPolicy]
	return s3err.SignatureDoesNotMatch.About("AWSAccessKeyId", c.accessKey).About("StringToSign", policy).
		About("SignatureProvided", c.signature).About("StringToSignBytes", fmt.Sprintf("% x", policy))
}

// uncovered returns the names of the fields that no condition names, sorted. The bucket is a field of
// every form.
func (f form) uncovered(covered func(field string) bool) []string {
	extra := slices.DeleteFunc(slices.Sorted(maps.Keys(f.fields)), func(name string) bool {
		return name == fieldBucket || exempt(name) || covered(name)
	})
	if !covered(fieldBucket) {
		extra = append(extra, fieldBucket)
	}
	return extra
}

const fieldBucket = "bucket"

// exempt reports whether a field needs no condition ("POST policy": each field except x-amz-signature,
// file, policy and those that begin with x-ignore-; in version 2 the signature and the key).
func exempt(field string) bool {
	switch field {
	case fieldPolicy, fieldSignature, fieldSignatureV2, fieldKeyV2, "file":
		return true
	default:
		return strings.HasPrefix(field, "x-ignore-")
	}
}

// value returns the value of a field that a condition names. The bucket is that of the URL.
func (f form) value(field string) (value string, ok bool) {
	if field == fieldBucket {
		return f.bucket, true
	}
	value, ok = f.fields[field]
	return value, ok
}

// Payload returns the file of a form as a payload: length bytes of body, which has to fail if it has more
// or less. It fails if the policy does not allow that length (content-length-range). Nothing about the
// bytes is signed.
func (p *PostPolicy) Payload(body io.Reader, length int64) (*Payload, error) {
	switch {
	case length < p.minBytes:
		return nil, s3err.EntityTooSmall.About("ProposedSize", strconv.FormatInt(length, 10)).About("MinSizeAllowed", strconv.FormatInt(p.minBytes, 10))
	case length > p.maxBytes:
		return nil, s3err.EntityTooLarge.About("ProposedSize", strconv.FormatInt(length, 10)).About("MaxSizeAllowed", strconv.FormatInt(p.maxBytes, 10))
	}
	return &Payload{Mode: Unsigned, Length: length, body: body}, nil
}
