package policy_test

import (
	"fmt"

	"github.com/akidb/akigw/access/policy"
)

// An explicit Deny overrides any Allow, and what nothing allows is denied.
func Example() {
	p, err := policy.Parse([]byte(`{
		"Version": "2012-10-17",
		"Statement": [
			{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*"},
			{"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::photos/private/*"}
		]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range []policy.Request{
		{Action: "s3:GetObject", Bucket: "photos", Key: "cat.jpg"},
		{Action: "s3:GetObject", Bucket: "photos", Key: "private/me.jpg"},
		{Action: "s3:PutObject", Bucket: "photos", Key: "cat.jpg"},
	} {
		fmt.Println(r.Action, r.Key, p.Allows(r))
	}
	// Output:
	// s3:GetObject cat.jpg true
	// s3:GetObject private/me.jpg false
	// s3:PutObject cat.jpg false
}
