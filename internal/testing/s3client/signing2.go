package s3client

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SigningV2 signs requests with signature version 2, in the simplest way and independently of the
// product. The path must have the bucket.
type SigningV2 struct {
	AccessKey, Secret, Token string
	Time                     time.Time // zero means now
	Presign                  bool
	// Moved moves the headers that are signed into the query of a presigned URL, as botocore does.
	Moved   bool
	Expires string // Unix seconds at which a presigned URL expires; "" means in 60 seconds
	Date    string // of a request that is not presigned; "" means the right one
	Body    []byte
}

// Sign adds a body and a signature to r, which must have neither.
func (s SigningV2) Sign(r *http.Request) {
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	date := s.Date
	if date == "" {
		date = s.Time.UTC().Format(http.TimeFormat)
	}
	if s.Presign {
		if date = s.Expires; date == "" {
			date = strconv.FormatInt(s.Time.Unix()+60, 10)
		}
	} else {
		r.Header.Set("Date", date)
	}
	if s.Token != "" {
		r.Header.Set("X-Amz-Security-Token", s.Token)
	}
	query, err := url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, " ", "%20"))
	if err != nil {
		panic(err)
	}
	m := hmac.New(sha1.New, []byte(s.Secret))
	m.Write([]byte(stringToSignV2(r, query, date)))
	signature := base64.StdEncoding.EncodeToString(m.Sum(nil))
	if s.Presign {
		query.Set("AWSAccessKeyId", s.AccessKey)
		query.Set("Expires", date)
		query.Set("Signature", signature)
		for name := range r.Header {
			if lower := strings.ToLower(name); s.Moved && (strings.HasPrefix(lower, "x-amz-") || lower == "content-md5" || lower == "content-type") {
				query.Set(lower, r.Header.Get(name))
				r.Header.Del(name)
			}
		}
	} else {
		r.Header.Set("Authorization", "AWS "+s.AccessKey+":"+signature)
	}
	r.URL.RawQuery = query.Encode()
	SetBody(r, s.Body)
}

func stringToSignV2(r *http.Request, query url.Values, date string) string {
	text := r.Method + "\n" + r.Header.Get("Content-Md5") + "\n" + r.Header.Get("Content-Type") + "\n"
	if r.Header["X-Amz-Date"] == nil {
		text += date
	}
	text += "\n"
	var amz, parameters []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			amz = append(amz, name+":"+strings.TrimSpace(strings.Join(values, ","))+"\n")
		}
	}
	slices.Sort(amz)
	for name, values := range query {
		if slices.Contains([]string{"accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging", "metrics", "notification", "object-lock", "partNumber",
			"policy", "replication", "requestPayment", "restore", "select", "select-type", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website"}, name) ||
			strings.HasPrefix(name, "response-") {
			parameters = append(parameters, strings.TrimSuffix(name+"="+values[0], "="))
		}
	}
	slices.Sort(parameters)
	text += strings.Join(amz, "") + r.URL.EscapedPath()
	if len(parameters) > 0 {
		text += "?" + strings.Join(parameters, "&")
	}
	return text
}
