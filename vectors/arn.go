package vectors

import (
	"fmt"
	"strings"
)

// Names forms and parses the ARNs of one account in one region.
type Names struct {
	// Region and Account (12 digits) are those of the gateway.
	Region, Account string
}

// BucketARN returns the ARN of a vector bucket.
func (n Names) BucketARN(bucket string) string {
	return "arn:aws:s3vectors:" + n.Region + ":" + n.Account + ":bucket/" + bucket
}

// IndexARN returns the ARN of an index.
func (n Names) IndexARN(bucket, index string) string {
	return n.BucketARN(bucket) + "/index/" + index
}

// ErrARN says that a text is not an ARN of S3 Vectors.
type ErrARN string

// Error implements error.
func (e ErrARN) Error() string { return string(e) }

// Parse returns the names in an ARN; index is "" for that of a bucket. The error is an ErrARN for a
// text that is no such ARN. An ARN of another region or account is parsed, and own is false.
func (n Names) Parse(arn string) (bucket, index string, own bool, err error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[2] != "s3vectors" {
		return "", "", false, ErrARN(fmt.Sprintf("%q is not an ARN of S3 Vectors", arn))
	}
	path, ok := strings.CutPrefix(parts[5], "bucket/")
	bucket, index, isIndex := strings.Cut(path, "/index/")
	if !ok || !ValidName(bucket) || isIndex && !ValidName(index) || !account(parts[4]) || parts[3] == "" {
		return "", "", false, ErrARN(fmt.Sprintf("%q is not the ARN of a vector bucket or an index", arn))
	}
	return bucket, index, parts[1] == "aws" && parts[3] == n.Region && parts[4] == n.Account, nil
}

func account(id string) bool {
	return len(id) == 12 && strings.Trim(id, "0123456789") == ""
}

// ValidAccount reports whether an account ID has 12 digits.
func ValidAccount(id string) bool { return account(id) }

// ValidName reports whether a name may be that of a vector bucket or an index: 3 to 63 lower-case
// letters, digits, hyphens and dots, with a letter or digit at both ends.
func ValidName(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alphanumeric := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alphanumeric && (c != '-' && c != '.' || i == 0 || i == len(name)-1) {
			return false
		}
	}
	return true
}
