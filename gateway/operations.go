package gateway

import "github.com/akidb/akigw/access/policy"

// Query parameters that several operations share.
var (
	readOptions = []string{"versionId", "partNumber", "response-cache-control", "response-content-disposition", "response-content-encoding",
		"response-content-language", "response-content-type", "response-expires"}
	version = []string{"versionId"}
	part    = []string{"uploadId", "partNumber"}
)

const copySourceHeader = "X-Amz-Copy-Source"

// Routes is the routing table, with a row for every operation of S3's API; the
// first row that matches decides. docs/s3-coverage.md is made from it.
//
// A parameter that a row does not name keeps the row from matching, so that
// nobody gets a second operation done under the rights of a first one.
var Routes = []Route{
	// Objects.
	{Op: "GetObject", Class: Accelerated, Method: "GET", Level: ObjectLevel, Options: readOptions, Action: "s3:GetObject", VersionAction: "s3:GetObjectVersion", Note: "by partNumber and with SSE-C keys past the cache", handle: (*Gateway).getObject},
	{Op: "HeadObject", Class: Accelerated, Method: "HEAD", Level: ObjectLevel, Options: readOptions, Action: "s3:GetObject", VersionAction: "s3:GetObjectVersion", Note: "by partNumber and with SSE-C keys past the cache", handle: (*Gateway).headObject},
	{Op: "CopyObject", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Header: copySourceHeader, Action: "s3:PutObject", Note: "s3:GetObject on the source as well", handle: (*Gateway).change},
	{Op: "PutObject", Class: Accelerated, Method: "PUT", Level: ObjectLevel, Action: "s3:PutObject", Body: Content, Note: "write-through, and into the cache on the way", handle: (*Gateway).putObject},
	{Op: "DeleteObject", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Options: version, Action: "s3:DeleteObject", VersionAction: "s3:DeleteObjectVersion", handle: (*Gateway).change},
	{Op: "UploadPartCopy", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: part, Header: copySourceHeader, Action: "s3:PutObject", Note: "s3:GetObject on the source as well", handle: (*Gateway).pass},
	{Op: "UploadPart", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: part, Action: "s3:PutObject", Body: Content, handle: (*Gateway).pass},
	{Op: "CreateMultipartUpload", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"uploads"}, Action: "s3:PutObject", handle: (*Gateway).pass},
	{Op: "CompleteMultipartUpload", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"uploadId"}, Action: "s3:PutObject", Body: Document, handle: (*Gateway).completeMultipartUpload},
	{Op: "AbortMultipartUpload", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Query: []string{"uploadId"}, Action: "s3:AbortMultipartUpload", handle: (*Gateway).pass},
	{Op: "ListParts", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"uploadId"}, Options: []string{"max-parts", "part-number-marker", "encoding-type"}, Action: "s3:ListMultipartUploadParts", handle: (*Gateway).pass},
	{Op: "GetObjectAttributes", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"attributes"}, Options: version, Action: "s3:GetObject", VersionAction: "s3:GetObjectVersion", Besides: "s3:GetObjectAttributes", handle: (*Gateway).pass},
	{Op: "GetObjectTagging", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"tagging"}, Options: version, Action: "s3:GetObjectTagging", VersionAction: "s3:GetObjectVersionTagging", handle: (*Gateway).pass},
	{Op: "PutObjectTagging", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"tagging"}, Options: version, Action: "s3:PutObjectTagging", VersionAction: "s3:PutObjectVersionTagging", Body: Document, handle: (*Gateway).change},
	{Op: "DeleteObjectTagging", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Query: []string{"tagging"}, Options: version, Action: "s3:DeleteObjectTagging", VersionAction: "s3:DeleteObjectVersionTagging", handle: (*Gateway).change},
	{Op: "GetObjectAcl", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"acl"}, Options: version, Action: "s3:GetObjectAcl", VersionAction: "s3:GetObjectVersionAcl", handle: (*Gateway).pass},
	{Op: "PutObjectAcl", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"acl"}, Options: version, Action: "s3:PutObjectAcl", VersionAction: "s3:PutObjectVersionAcl", Body: Document, handle: (*Gateway).change},
	{Op: "GetObjectRetention", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"retention"}, Options: version, Action: "s3:GetObjectRetention", handle: (*Gateway).pass},
	{Op: "PutObjectRetention", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"retention"}, Options: version, Action: "s3:PutObjectRetention", Body: Document, handle: (*Gateway).change},
	{Op: "GetObjectLegalHold", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"legal-hold"}, Options: version, Action: "s3:GetObjectLegalHold", handle: (*Gateway).pass},
	{Op: "PutObjectLegalHold", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"legal-hold"}, Options: version, Action: "s3:PutObjectLegalHold", Body: Document, handle: (*Gateway).change},
	{Op: "GetObjectTorrent", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"torrent"}, Action: "s3:GetObjectTorrent", handle: (*Gateway).pass},
	{Op: "RestoreObject", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"restore"}, Options: version, Action: "s3:RestoreObject", Body: Document, handle: (*Gateway).change},
	{Op: "SelectObjectContent", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"select", "select-type"}, Action: "s3:GetObject", Body: Document, handle: (*Gateway).pass},
	{Op: "UpdateObjectEncryption", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"encryption"}, Options: version, Action: "s3:UpdateObjectEncryption", Body: Document, handle: (*Gateway).change},
	{Op: "RenameObject", Class: Refused, Method: "PUT", Level: ObjectLevel, Query: []string{"renameObject"}, Note: "for directory buckets only", handle: (*Gateway).refused},

	// Buckets.
	{Op: "ListObjectsV2", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"list-type"}, Options: []string{"delimiter", "encoding-type", "max-keys", "prefix", "continuation-token", "fetch-owner", "start-after"}, Action: "s3:ListBucket", handle: (*Gateway).pass},
	{Op: "ListObjects", Class: Forwarded, Method: "GET", Level: BucketLevel, Options: []string{"delimiter", "encoding-type", "marker", "max-keys", "prefix"}, Action: "s3:ListBucket", handle: (*Gateway).pass},
	{Op: "HeadBucket", Class: Forwarded, Method: "HEAD", Level: BucketLevel, Action: "s3:ListBucket", handle: (*Gateway).pass},
	{Op: "DeleteObjects", Class: Forwarded, Method: "POST", Level: BucketLevel, Query: []string{"delete"}, Body: Document, Note: "s3:DeleteObject or s3:DeleteObjectVersion for each key", handle: (*Gateway).deleteObjects},
	{Op: "ListMultipartUploads", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"uploads"}, Options: []string{"delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"}, Action: "s3:ListBucketMultipartUploads", handle: (*Gateway).pass},
	{Op: "ListObjectVersions", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"versions"}, Options: []string{"delimiter", "encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker"}, Action: "s3:ListBucketVersions", handle: (*Gateway).pass},
	{Op: "CreateBucket", Class: Forwarded, Method: "PUT", Level: BucketLevel, Action: "s3:CreateBucket", Body: Document, handle: (*Gateway).pass},
	{Op: "DeleteBucket", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Action: "s3:DeleteBucket", handle: (*Gateway).pass},
	{Op: "PostObject", Class: Refused, Method: "POST", Level: BucketLevel, Note: "a policy form is another way to sign, which this gateway does not verify; use PutObject or a presigned URL", handle: (*Gateway).refused},
	{Op: "CreateSession", Class: Refused, Method: "GET", Level: BucketLevel, Query: []string{"session"}, Note: "its answer is credentials of the upstream's; for directory buckets only", handle: (*Gateway).refused},
	{Op: "CreateBucketMetadataConfiguration", Class: Forwarded, Method: "POST", Level: BucketLevel, Query: []string{"metadataConfiguration"}, Action: "s3:CreateBucketMetadataTableConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "CreateBucketMetadataTableConfiguration", Class: Forwarded, Method: "POST", Level: BucketLevel, Query: []string{"metadataTable"}, Action: "s3:CreateBucketMetadataTableConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "DeleteBucketAnalyticsConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"analytics", "id"}, Action: "s3:PutAnalyticsConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketCors", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"cors"}, Action: "s3:PutBucketCORS", handle: (*Gateway).pass},
	{Op: "DeleteBucketEncryption", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"encryption"}, Action: "s3:PutEncryptionConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketIntelligentTieringConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"intelligent-tiering", "id"}, Action: "s3:PutIntelligentTieringConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketInventoryConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"inventory", "id"}, Action: "s3:PutInventoryConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketLifecycle", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"lifecycle"}, Action: "s3:PutLifecycleConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketMetadataConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"metadataConfiguration"}, Action: "s3:DeleteBucketMetadataTableConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketMetadataTableConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"metadataTable"}, Action: "s3:DeleteBucketMetadataTableConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketMetricsConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"metrics", "id"}, Action: "s3:PutMetricsConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketOwnershipControls", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"ownershipControls"}, Action: "s3:PutBucketOwnershipControls", handle: (*Gateway).pass},
	{Op: "DeleteBucketPolicy", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"policy"}, Action: "s3:DeleteBucketPolicy", handle: (*Gateway).pass},
	{Op: "DeleteBucketReplication", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"replication"}, Action: "s3:PutReplicationConfiguration", handle: (*Gateway).pass},
	{Op: "DeleteBucketTagging", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"tagging"}, Action: "s3:PutBucketTagging", handle: (*Gateway).pass},
	{Op: "DeleteBucketWebsite", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"website"}, Action: "s3:DeleteBucketWebsite", handle: (*Gateway).pass},
	{Op: "DeletePublicAccessBlock", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"publicAccessBlock"}, Action: "s3:PutBucketPublicAccessBlock", handle: (*Gateway).pass},
	{Op: "GetBucketAbac", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"abac"}, Action: "s3:GetBucketAbac", handle: (*Gateway).pass},
	{Op: "GetBucketAccelerateConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"accelerate"}, Action: "s3:GetAccelerateConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketAcl", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"acl"}, Action: "s3:GetBucketAcl", handle: (*Gateway).pass},
	{Op: "GetBucketAnalyticsConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"analytics", "id"}, Action: "s3:GetAnalyticsConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketCors", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"cors"}, Action: "s3:GetBucketCORS", handle: (*Gateway).pass},
	{Op: "GetBucketEncryption", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"encryption"}, Action: "s3:GetEncryptionConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketIntelligentTieringConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"intelligent-tiering", "id"}, Action: "s3:GetIntelligentTieringConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketInventoryConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"inventory", "id"}, Action: "s3:GetInventoryConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketLifecycleConfiguration", Also: []string{"GetBucketLifecycle"}, Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"lifecycle"}, Action: "s3:GetLifecycleConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketLocation", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"location"}, Action: "s3:GetBucketLocation", handle: (*Gateway).pass},
	{Op: "GetBucketLogging", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"logging"}, Action: "s3:GetBucketLogging", handle: (*Gateway).pass},
	{Op: "GetBucketMetadataConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metadataConfiguration"}, Action: "s3:GetBucketMetadataTableConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketMetadataTableConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metadataTable"}, Action: "s3:GetBucketMetadataTableConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketMetricsConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metrics", "id"}, Action: "s3:GetMetricsConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketNotificationConfiguration", Also: []string{"GetBucketNotification"}, Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"notification"}, Action: "s3:GetBucketNotification", handle: (*Gateway).pass},
	{Op: "GetBucketOwnershipControls", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"ownershipControls"}, Action: "s3:GetBucketOwnershipControls", handle: (*Gateway).pass},
	{Op: "GetBucketPolicy", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"policy"}, Action: "s3:GetBucketPolicy", handle: (*Gateway).pass},
	{Op: "GetBucketPolicyStatus", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"policyStatus"}, Action: "s3:GetBucketPolicyStatus", handle: (*Gateway).pass},
	{Op: "GetBucketReplication", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"replication"}, Action: "s3:GetReplicationConfiguration", handle: (*Gateway).pass},
	{Op: "GetBucketRequestPayment", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"requestPayment"}, Action: "s3:GetBucketRequestPayment", handle: (*Gateway).pass},
	{Op: "GetBucketTagging", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"tagging"}, Action: "s3:GetBucketTagging", handle: (*Gateway).pass},
	{Op: "GetBucketVersioning", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"versioning"}, Action: "s3:GetBucketVersioning", handle: (*Gateway).pass},
	{Op: "GetBucketWebsite", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"website"}, Action: "s3:GetBucketWebsite", handle: (*Gateway).pass},
	{Op: "GetObjectLockConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"object-lock"}, Action: "s3:GetBucketObjectLockConfiguration", handle: (*Gateway).pass},
	{Op: "GetPublicAccessBlock", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"publicAccessBlock"}, Action: "s3:GetBucketPublicAccessBlock", handle: (*Gateway).pass},
	{Op: "ListBucketAnalyticsConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"analytics"}, Options: []string{"continuation-token"}, Action: "s3:GetAnalyticsConfiguration", handle: (*Gateway).pass},
	{Op: "ListBucketIntelligentTieringConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"intelligent-tiering"}, Options: []string{"continuation-token"}, Action: "s3:GetIntelligentTieringConfiguration", handle: (*Gateway).pass},
	{Op: "ListBucketInventoryConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"inventory"}, Options: []string{"continuation-token"}, Action: "s3:GetInventoryConfiguration", handle: (*Gateway).pass},
	{Op: "ListBucketMetricsConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metrics"}, Options: []string{"continuation-token"}, Action: "s3:GetMetricsConfiguration", handle: (*Gateway).pass},
	{Op: "PutBucketAbac", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"abac"}, Action: "s3:PutBucketAbac", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketAccelerateConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"accelerate"}, Action: "s3:PutAccelerateConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketAcl", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"acl"}, Action: "s3:PutBucketAcl", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketAnalyticsConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"analytics", "id"}, Action: "s3:PutAnalyticsConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketCors", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"cors"}, Action: "s3:PutBucketCORS", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketEncryption", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"encryption"}, Action: "s3:PutEncryptionConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketIntelligentTieringConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"intelligent-tiering", "id"}, Action: "s3:PutIntelligentTieringConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketInventoryConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"inventory", "id"}, Action: "s3:PutInventoryConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketLifecycleConfiguration", Also: []string{"PutBucketLifecycle"}, Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"lifecycle"}, Action: "s3:PutLifecycleConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketLogging", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"logging"}, Action: "s3:PutBucketLogging", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketMetricsConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metrics", "id"}, Action: "s3:PutMetricsConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketNotificationConfiguration", Also: []string{"PutBucketNotification"}, Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"notification"}, Action: "s3:PutBucketNotification", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketOwnershipControls", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"ownershipControls"}, Action: "s3:PutBucketOwnershipControls", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketPolicy", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"policy"}, Action: "s3:PutBucketPolicy", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketReplication", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"replication"}, Action: "s3:PutReplicationConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketRequestPayment", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"requestPayment"}, Action: "s3:PutBucketRequestPayment", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketTagging", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"tagging"}, Action: "s3:PutBucketTagging", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketVersioning", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"versioning"}, Action: "s3:PutBucketVersioning", Body: Document, handle: (*Gateway).pass},
	{Op: "PutBucketWebsite", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"website"}, Action: "s3:PutBucketWebsite", Body: Document, handle: (*Gateway).pass},
	{Op: "PutObjectLockConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"object-lock"}, Action: "s3:PutBucketObjectLockConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "PutPublicAccessBlock", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"publicAccessBlock"}, Action: "s3:PutBucketPublicAccessBlock", Body: Document, handle: (*Gateway).pass},
	{Op: "UpdateBucketMetadataInventoryTableConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metadataInventoryTable"}, Action: "s3:UpdateBucketMetadataInventoryTableConfiguration", Body: Document, handle: (*Gateway).pass},
	{Op: "UpdateBucketMetadataJournalTableConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metadataJournalTable"}, Action: "s3:UpdateBucketMetadataJournalTableConfiguration", Body: Document, handle: (*Gateway).pass},

	// The service.
	{Op: "ListBuckets", Class: Forwarded, Method: "GET", Level: ServiceLevel, Options: []string{"max-buckets", "continuation-token", "prefix", "bucket-region"}, Action: "s3:ListAllMyBuckets", handle: (*Gateway).pass},
	{Op: "ListDirectoryBuckets", Class: Refused, Method: "GET", Level: ServiceLevel, Query: []string{"max-directory-buckets"}, Options: []string{"continuation-token"}, Note: "for directory buckets only", handle: (*Gateway).refused},
	{Op: "WriteGetObjectResponse", Class: Refused, Method: "POST", Level: ServiceLevel, Note: "belongs to Object Lambda's own endpoint", handle: (*Gateway).refused},

	// What is none of S3's operations needs the right to everything.
	{Op: "Other", Class: Forwarded, Level: ObjectLevel, Any: true, Action: policy.Unlisted, Body: Content, Note: "any other request that names an object: only for who may do everything", handle: (*Gateway).other},
	{Op: "Other", Class: Forwarded, Level: AnyLevel, Any: true, Action: policy.Unlisted, Body: Document, Note: "any other request: only for who may do everything", handle: (*Gateway).pass},
}
