package policy

import (
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/glob"
)

// actionsLike returns the actions that match a pattern. Actions are case-insensitive (IAM); "*"
// matches Unlisted as well.
func actionsLike(pattern string) map[string]bool {
	named := map[string]bool{}
	for _, a := range slices.Concat(Actions, VectorActions) {
		if glob.Match(strings.ToLower(pattern), strings.ToLower(a)) {
			named[a] = true
		}
	}
	if pattern == "*" {
		named[Unlisted] = true
	}
	return named
}

// Unlisted is the action of a request that is not a known S3 operation. It is not an S3 action, so
// that only a policy that allows everything ("*") allows it.
const Unlisted = "akigw:UnlistedOperation"

// Actions are the S3 actions that the gateway authorises ("Actions, resources, and condition keys
// for Amazon S3" in the service authorization reference).
var Actions = []string{
	"s3:AbortMultipartUpload",
	"s3:BypassGovernanceRetention",
	"s3:CreateBucket",
	"s3:CreateBucketMetadataTableConfiguration",
	"s3:DeleteBucket",
	"s3:DeleteBucketMetadataTableConfiguration",
	"s3:DeleteBucketPolicy",
	"s3:DeleteBucketWebsite",
	"s3:DeleteObject",
	"s3:DeleteObjectAnnotation",
	"s3:DeleteObjectTagging",
	"s3:DeleteObjectVersion",
	"s3:DeleteObjectVersionTagging",
	"s3:GetAccelerateConfiguration",
	"s3:GetAnalyticsConfiguration",
	"s3:GetBucketAbac",
	"s3:GetBucketAcl",
	"s3:GetBucketCORS",
	"s3:GetBucketLocation",
	"s3:GetBucketLogging",
	"s3:GetBucketMetadataTableConfiguration",
	"s3:GetBucketNotification",
	"s3:GetBucketObjectLockConfiguration",
	"s3:GetBucketOwnershipControls",
	"s3:GetBucketPolicy",
	"s3:GetBucketPolicyStatus",
	"s3:GetBucketPublicAccessBlock",
	"s3:GetBucketRequestPayment",
	"s3:GetBucketTagging",
	"s3:GetBucketVersioning",
	"s3:GetBucketWebsite",
	"s3:GetEncryptionConfiguration",
	"s3:GetIntelligentTieringConfiguration",
	"s3:GetInventoryConfiguration",
	"s3:GetLifecycleConfiguration",
	"s3:GetMetricsConfiguration",
	"s3:GetObject",
	"s3:GetObjectAcl",
	"s3:GetObjectAnnotation",
	"s3:GetObjectAttributes",
	"s3:GetObjectLegalHold",
	"s3:GetObjectRetention",
	"s3:GetObjectTagging",
	"s3:GetObjectTorrent",
	"s3:GetObjectVersion",
	"s3:GetObjectVersionAcl",
	"s3:GetObjectVersionAttributes",
	"s3:GetObjectVersionTagging",
	"s3:GetReplicationConfiguration",
	"s3:ListAllMyBuckets",
	"s3:ListBucket",
	"s3:ListBucketMultipartUploads",
	"s3:ListBucketVersions",
	"s3:ListMultipartUploadParts",
	"s3:ListObjectAnnotations",
	"s3:PutAccelerateConfiguration",
	"s3:PutAnalyticsConfiguration",
	"s3:PutBucketAbac",
	"s3:PutBucketAcl",
	"s3:PutBucketCORS",
	"s3:PutBucketLogging",
	"s3:PutBucketNotification",
	"s3:PutBucketObjectLockConfiguration",
	"s3:PutBucketOwnershipControls",
	"s3:PutBucketPolicy",
	"s3:PutBucketPublicAccessBlock",
	"s3:PutBucketRequestPayment",
	"s3:PutBucketTagging",
	"s3:PutBucketVersioning",
	"s3:PutBucketWebsite",
	"s3:PutEncryptionConfiguration",
	"s3:PutIntelligentTieringConfiguration",
	"s3:PutInventoryConfiguration",
	"s3:PutLifecycleConfiguration",
	"s3:PutMetricsConfiguration",
	"s3:PutObject",
	"s3:PutObjectAcl",
	"s3:PutObjectAnnotation",
	"s3:PutObjectLegalHold",
	"s3:PutObjectRetention",
	"s3:PutObjectTagging",
	"s3:PutObjectVersionAcl",
	"s3:PutObjectVersionTagging",
	"s3:PutReplicationConfiguration",
	"s3:RestoreObject",
	"s3:UpdateBucketMetadataAnnotationTableConfiguration",
	"s3:UpdateBucketMetadataInventoryTableConfiguration",
	"s3:UpdateBucketMetadataJournalTableConfiguration",
	"s3:UpdateObjectEncryption",
}

// VectorActions are the actions of S3 Vectors ("Actions, resources, and condition keys for Amazon S3
// Vectors" in the service authorization reference): one for each operation.
var VectorActions = []string{
	"s3vectors:CreateIndex",
	"s3vectors:CreateVectorBucket",
	"s3vectors:DeleteIndex",
	"s3vectors:DeleteVectorBucket",
	"s3vectors:DeleteVectorBucketPolicy",
	"s3vectors:DeleteVectors",
	"s3vectors:GetIndex",
	"s3vectors:GetVectorBucket",
	"s3vectors:GetVectorBucketPolicy",
	"s3vectors:GetVectors",
	"s3vectors:ListIndexes",
	"s3vectors:ListTagsForResource",
	"s3vectors:ListVectorBuckets",
	"s3vectors:ListVectors",
	"s3vectors:PutVectorBucketPolicy",
	"s3vectors:PutVectors",
	"s3vectors:QueryVectors",
	"s3vectors:TagResource",
	"s3vectors:UntagResource",
}
