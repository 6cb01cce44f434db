package s3xml

import "testing"

// TestAnswersWithOtherRoots: a response is recognised by its root or by a characteristic child; an
// error document is not.
func TestAnswersWithOtherRoots(t *testing.T) {
	const root, child = "ListBucketResult", "IsTruncated"
	for document, want := range map[string]bool{
		`<ListBucketResult/>`: true,
		`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name></ListBucketResult>`:  true,
		`<?xml version="1.0"?><ListObjectsV2Response><IsTruncated>false</IsTruncated></ListObjectsV2Response>`: true,
		`<s:Result xmlns:s="x"><s:IsTruncated>false</s:IsTruncated></s:Result>`:                                true,
		`<Error><Code>InternalError</Code></Error>`:                                                            false,
		`<Error><IsTruncated>false</IsTruncated></Error>`:                                                      false,
		`<html><body><IsTruncated/></body></html>`:                                                             false,
		`<Other/>`:                   false,
		`<ListBucketResult><Name>`:   false,
		`<ListBucketResult></Other>`: false,
		`<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>&#x1;</Key></Contents></ListBucketResult>`: true,
		``:         false,
		`nonsense`: false,
	} {
		if got := IsAnswer([]byte(document), root, child); got != want {
			t.Errorf("%s: %t", document, got)
		}
	}
}
