package s3client

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Upload is a browser upload ("POST Object"), signed in the simplest way and independently of the product.
type Upload struct {
	AccessKey, Secret, Token string
	Region                   string    // "" means us-east-1
	Time                     time.Time // zero means now
	V2                       bool      // signature version 2
	Bucket                   string
	// Fields come in front of the file, in order, after those of the signature.
	Fields [][2]string
	// Conditions are those of the policy besides the ones for the fields of the signature; nil means an exact
	// one for the bucket and for each field.
	Conditions []any
	Expires    time.Time // of the policy; zero means an hour after Time
	Policy     string    // JSON instead of all that; "" for none
	Filename   string    // "" means file.bin
	File       []byte
	// Change, if set, changes the fields after they were signed.
	Change func(fields [][2]string) [][2]string
	// After comes behind the file, in place of the closing line; "" means that line.
	After string
}

// Boundary is the boundary of all uploads.
const Boundary = "----boundary--of-tests"

// ContentType is the Content-Type of all uploads.
const ContentType = `multipart/form-data; boundary="` + Boundary + `"`

// Signed returns the fields in front of the file.
func (u Upload) Signed() [][2]string {
	fields := append(u.signed(), u.Fields...)
	if u.Change != nil {
		fields = u.Change(fields)
	}
	return fields
}

// Body returns the body of the request.
func (u Upload) Body() []byte {
	var b bytes.Buffer
	for _, f := range u.Signed() {
		b.WriteString("--" + Boundary + "\r\nContent-Disposition: form-data; name=\"" + f[0] + "\"\r\n\r\n" + f[1] + "\r\n")
	}
	if u.Filename == "" {
		u.Filename = "file.bin"
	}
	b.WriteString("--" + Boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + u.Filename + "\"\r\nContent-Type: application/x-ignored\r\n\r\n")
	b.Write(u.File)
	if u.After == "" {
		u.After = "\r\n--" + Boundary + "--\r\n"
	}
	b.WriteString(u.After)
	return b.Bytes()
}

// signed returns the fields of the signature.
func (u Upload) signed() [][2]string {
	if u.Time.IsZero() {
		u.Time = time.Now()
	}
	if u.Region == "" {
		u.Region = "us-east-1"
	}
	if u.Expires.IsZero() {
		u.Expires = u.Time.Add(time.Hour)
	}
	day, date := u.Time.UTC().Format("20060102"), u.Time.UTC().Format(signingTime)
	fields := [][2]string{{"x-amz-algorithm", "AWS4-HMAC-SHA256"}, {"x-amz-credential", u.AccessKey + "/" + day + "/" + u.Region + "/s3/aws4_request"}, {"x-amz-date", date}}
	if u.V2 {
		fields = nil
	}
	if u.Token != "" {
		fields = append(fields, [2]string{"x-amz-security-token", u.Token})
	}
	policy := base64.StdEncoding.EncodeToString(u.policy(fields))
	if u.V2 {
		sum := hmac.New(sha1.New, []byte(u.Secret))
		sum.Write([]byte(policy))
		return append(fields, [2]string{"AWSAccessKeyId", u.AccessKey}, [2]string{"policy", policy}, [2]string{"signature", base64.StdEncoding.EncodeToString(sum.Sum(nil))})
	}
	key := mac(mac(mac(mac([]byte("AWS4"+u.Secret), day), u.Region), "s3"), "aws4_request")
	return append(fields, [2]string{"policy", policy}, [2]string{"x-amz-signature", hex.EncodeToString(mac(key, policy))})
}

func (u Upload) policy(signing [][2]string) []byte {
	if u.Policy != "" {
		return []byte(u.Policy)
	}
	conditions := u.Conditions
	if conditions == nil {
		conditions = []any{map[string]string{"bucket": u.Bucket}}
		for _, f := range u.Fields {
			if !strings.HasPrefix(f[0], "x-ignore-") {
				conditions = append(conditions, []string{"eq", "$" + f[0], f[1]})
			}
		}
	}
	for _, f := range signing {
		conditions = append(conditions[:len(conditions):len(conditions)], map[string]string{f[0]: f[1]})
	}
	document, err := json.Marshal(map[string]any{"expiration": u.Expires.UTC().Format(time.RFC3339), "conditions": conditions})
	if err != nil {
		panic(err)
	}
	return document
}
