package gateway

import (
	"slices"

	"github.com/akidb/akigw/access/policy"
)

// routes returns the table of operations, with a row for every operation of S3's API and its
// handler; the first matching row decides. docs/s3-coverage.md is generated from it.
//
// A row does not match a request with a parameter that the row does not name, so that a client
// cannot get a second operation done with the rights of a first one.
func routes(h *handlers) []Route {
	return slices.Concat(objectRoutes(h), bucketRoutes(h), bucketDeleteRoutes(h), bucketGetRoutes(h), bucketPutRoutes(h), serviceRoutes(h), otherRoutes(h))
}

func objectRoutes(h *handlers) []Route {
	readOptions := []string{"versionId", "partNumber", "response-cache-control", "response-content-disposition", "response-content-encoding",
		"response-content-language", "response-content-type", "response-expires"}
	version, part := []string{"versionId"}, []string{"uploadId", "partNumber"}
	return []Route{
		{Op: "GetObject", Class: Accelerated, Method: "GET", Level: ObjectLevel, Options: readOptions, Action: "s3:GetObject", VersionAction: "s3:GetObjectVersion", Note: "with SSE-C keys past the cache", handle: h.reads.getObject},
		{Op: "HeadObject", Class: Accelerated, Method: "HEAD", Level: ObjectLevel, Options: readOptions, Action: "s3:GetObject", VersionAction: "s3:GetObjectVersion", Note: "with SSE-C keys past the cache", handle: h.reads.headObject},
		{Op: "CopyObject", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Header: copySourceHeader, Action: "s3:PutObject", Note: "s3:GetObject on the source as well", handle: h.copies.copyObject},
		{Op: "PutObject", Class: Accelerated, Method: "PUT", Level: ObjectLevel, Action: "s3:PutObject", Body: Content, Note: "write-through and into the cache on the way, or by the journal where a rule says so", handle: h.writes.putObject},
		{Op: "DeleteObject", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Options: version, Action: "s3:DeleteObject", VersionAction: "s3:DeleteObjectVersion", Note: "write-through, or by the journal where a rule says so", handle: h.writes.deleteObject},
		{Op: "UploadPartCopy", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: part, Header: copySourceHeader, Action: "s3:PutObject", Note: "s3:GetObject on the source as well", handle: h.copies.uploadPartCopy},
		{Op: "UploadPart", Class: Accelerated, Method: "PUT", Level: ObjectLevel, Query: part, Action: "s3:PutObject", Body: Content, Note: "write-through and into the cache on the way, or by the journal where a rule says so", handle: h.uploads.uploadPart},
		{Op: "CreateMultipartUpload", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"uploads"}, Action: "s3:PutObject", Note: "by the journal where a rule says so", handle: h.uploads.createMultipartUpload},
		{Op: "CompleteMultipartUpload", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"uploadId"}, Action: "s3:PutObject", Body: Document, Note: "the parts in the cache become the object; by the journal where a rule says so", handle: h.uploads.completeMultipartUpload},
		{Op: "AbortMultipartUpload", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Query: []string{"uploadId"}, Action: "s3:AbortMultipartUpload", Note: "by the journal where a rule says so", handle: h.uploads.abortMultipartUpload},
		{Op: "ListParts", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"uploadId"}, Options: []string{"max-parts", "part-number-marker", "encoding-type"}, Action: "s3:ListMultipartUploadParts", Note: "by the journal where a rule says so", handle: h.uploads.listParts},
		{Op: "GetObjectAttributes", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"attributes"}, Options: version, Action: "s3:GetObject", VersionAction: "s3:GetObjectVersion", Besides: "s3:GetObjectAttributes", handle: h.forward.pass},
		{Op: "GetObjectTagging", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"tagging"}, Options: version, Action: "s3:GetObjectTagging", VersionAction: "s3:GetObjectVersionTagging", handle: h.forward.pass},
		{Op: "PutObjectTagging", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"tagging"}, Options: version, Action: "s3:PutObjectTagging", VersionAction: "s3:PutObjectVersionTagging", Body: Document, handle: h.forward.change},
		{Op: "DeleteObjectTagging", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Query: []string{"tagging"}, Options: version, Action: "s3:DeleteObjectTagging", VersionAction: "s3:DeleteObjectVersionTagging", handle: h.forward.change},
		{Op: "GetObjectAcl", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"acl"}, Options: version, Action: "s3:GetObjectAcl", VersionAction: "s3:GetObjectVersionAcl", handle: h.forward.pass},
		{Op: "PutObjectAcl", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"acl"}, Options: version, Action: "s3:PutObjectAcl", VersionAction: "s3:PutObjectVersionAcl", Body: Document, handle: h.forward.change},
		{Op: "GetObjectRetention", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"retention"}, Options: version, Action: "s3:GetObjectRetention", handle: h.forward.pass},
		{Op: "PutObjectRetention", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"retention"}, Options: version, Action: "s3:PutObjectRetention", Body: Document, handle: h.forward.change},
		{Op: "GetObjectLegalHold", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"legal-hold"}, Options: version, Action: "s3:GetObjectLegalHold", handle: h.forward.pass},
		{Op: "PutObjectLegalHold", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"legal-hold"}, Options: version, Action: "s3:PutObjectLegalHold", Body: Document, handle: h.forward.change},
		{Op: "GetObjectTorrent", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"torrent"}, Action: "s3:GetObjectTorrent", handle: h.forward.pass},
		{Op: "RestoreObject", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"restore"}, Options: version, Action: "s3:RestoreObject", Body: Document, handle: h.forward.change},
		{Op: "SelectObjectContent", Class: Forwarded, Method: "POST", Level: ObjectLevel, Query: []string{"select", "select-type"}, Action: "s3:GetObject", Body: Document, handle: h.forward.pass},
		{Op: "UpdateObjectEncryption", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"encryption"}, Options: version, Action: "s3:UpdateObjectEncryption", Body: Document, handle: h.forward.change},
		{Op: "GetObjectAnnotation", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"annotation", "annotationName"}, Options: version, Action: "s3:GetObjectAnnotation", handle: h.forward.pass},
		{Op: "ListObjectAnnotations", Class: Forwarded, Method: "GET", Level: ObjectLevel, Query: []string{"annotation"}, Options: []string{"annotation-prefix", "continuation-token", "max-annotation-results", "versionId"}, Action: "s3:ListObjectAnnotations", handle: h.forward.pass},
		{Op: "PutObjectAnnotation", Class: Forwarded, Method: "PUT", Level: ObjectLevel, Query: []string{"annotation", "annotationName"}, Options: version, Action: "s3:PutObjectAnnotation", Body: Content, handle: h.forward.change},
		{Op: "DeleteObjectAnnotation", Class: Forwarded, Method: "DELETE", Level: ObjectLevel, Query: []string{"annotation", "annotationName"}, Options: version, Action: "s3:DeleteObjectAnnotation", handle: h.forward.change},
		{Op: "RenameObject", Class: Refused, Method: "PUT", Level: ObjectLevel, Query: []string{"renameObject"}, Note: "for directory buckets only", handle: refused},
	}
}

func bucketRoutes(h *handlers) []Route {
	return []Route{
		{Op: "ListObjectsV2", Class: Forwarded, Note: "from memory where a rule has list_ttl_secs", Method: "GET", Level: BucketLevel, Query: []string{"list-type"}, Options: []string{"delimiter", "encoding-type", "max-keys", "prefix", "continuation-token", "fetch-owner", "start-after"}, Action: "s3:ListBucket", handle: h.lists.listObjects},
		{Op: "ListObjects", Class: Forwarded, Note: "from memory where a rule has list_ttl_secs", Method: "GET", Level: BucketLevel, Options: []string{"delimiter", "encoding-type", "marker", "max-keys", "prefix"}, Action: "s3:ListBucket", handle: h.lists.listObjects},
		{Op: "HeadBucket", Class: Forwarded, Method: "HEAD", Level: BucketLevel, Action: "s3:ListBucket", handle: h.forward.pass},
		{Op: "DeleteObjects", Class: Forwarded, Method: "POST", Level: BucketLevel, Query: []string{"delete"}, Body: Document, Note: "s3:DeleteObject or s3:DeleteObjectVersion for each key; by the journal where a rule says so", handle: h.writes.deleteObjects},
		{Op: "ListMultipartUploads", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"uploads"}, Options: []string{"delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"}, Action: "s3:ListBucketMultipartUploads", Note: "with those in the journal", handle: h.lists.listMultipartUploads},
		{Op: "ListObjectVersions", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"versions"}, Options: []string{"delimiter", "encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker"}, Action: "s3:ListBucketVersions", handle: h.lists.listObjectVersions},
		{Op: "CreateBucket", Class: Forwarded, Method: "PUT", Level: BucketLevel, Action: "s3:CreateBucket", Body: Document, handle: h.forward.pass},
		{Op: "DeleteBucket", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Action: "s3:DeleteBucket", handle: h.forward.pass},
		{Op: "PostObject", Sent: "PutObject", Class: Accelerated, Method: "POST", Level: BucketLevel, Action: "s3:PutObject", Body: Form, Note: "browser uploads by a signed policy; stored and cached like those of PutObject; a file of more than 8 MiB must be the last field of its form", handle: h.forms.postObject},
		{Op: "CreateSession", Class: Refused, Method: "GET", Level: BucketLevel, Query: []string{"session"}, Note: "its response contains credentials of the upstream; for directory buckets only", handle: refused},
		{Op: "CreateBucketMetadataConfiguration", Class: Forwarded, Method: "POST", Level: BucketLevel, Query: []string{"metadataConfiguration"}, Action: "s3:CreateBucketMetadataTableConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "CreateBucketMetadataTableConfiguration", Class: Forwarded, Method: "POST", Level: BucketLevel, Query: []string{"metadataTable"}, Action: "s3:CreateBucketMetadataTableConfiguration", Body: Document, handle: h.forward.pass},
	}
}

// bucketDeleteRoutes are the operations that remove configuration of a bucket.
func bucketDeleteRoutes(h *handlers) []Route {
	return []Route{
		{Op: "DeleteBucketAnalyticsConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"analytics", "id"}, Action: "s3:PutAnalyticsConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketCors", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"cors"}, Action: "s3:PutBucketCORS", handle: h.forward.pass},
		{Op: "DeleteBucketEncryption", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"encryption"}, Action: "s3:PutEncryptionConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketIntelligentTieringConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"intelligent-tiering", "id"}, Action: "s3:PutIntelligentTieringConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketInventoryConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"inventory", "id"}, Action: "s3:PutInventoryConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketLifecycle", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"lifecycle"}, Action: "s3:PutLifecycleConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketMetadataConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"metadataConfiguration"}, Action: "s3:DeleteBucketMetadataTableConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketMetadataTableConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"metadataTable"}, Action: "s3:DeleteBucketMetadataTableConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketMetricsConfiguration", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"metrics", "id"}, Action: "s3:PutMetricsConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketOwnershipControls", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"ownershipControls"}, Action: "s3:PutBucketOwnershipControls", handle: h.forward.pass},
		{Op: "DeleteBucketPolicy", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"policy"}, Action: "s3:DeleteBucketPolicy", handle: h.forward.pass},
		{Op: "DeleteBucketReplication", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"replication"}, Action: "s3:PutReplicationConfiguration", handle: h.forward.pass},
		{Op: "DeleteBucketTagging", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"tagging"}, Action: "s3:PutBucketTagging", handle: h.forward.pass},
		{Op: "DeleteBucketWebsite", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"website"}, Action: "s3:DeleteBucketWebsite", handle: h.forward.pass},
		{Op: "DeletePublicAccessBlock", Class: Forwarded, Method: "DELETE", Level: BucketLevel, Query: []string{"publicAccessBlock"}, Action: "s3:PutBucketPublicAccessBlock", handle: h.forward.pass},
	}
}

// bucketGetRoutes are the operations that read the configuration of a bucket.
func bucketGetRoutes(h *handlers) []Route {
	return []Route{
		{Op: "GetBucketAbac", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"abac"}, Action: "s3:GetBucketAbac", handle: h.forward.pass},
		{Op: "GetBucketAccelerateConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"accelerate"}, Action: "s3:GetAccelerateConfiguration", handle: h.forward.pass},
		{Op: "GetBucketAcl", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"acl"}, Action: "s3:GetBucketAcl", handle: h.forward.pass},
		{Op: "GetBucketAnalyticsConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"analytics", "id"}, Action: "s3:GetAnalyticsConfiguration", handle: h.forward.pass},
		{Op: "GetBucketCors", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"cors"}, Action: "s3:GetBucketCORS", handle: h.forward.pass},
		{Op: "GetBucketEncryption", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"encryption"}, Action: "s3:GetEncryptionConfiguration", handle: h.forward.pass},
		{Op: "GetBucketIntelligentTieringConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"intelligent-tiering", "id"}, Action: "s3:GetIntelligentTieringConfiguration", handle: h.forward.pass},
		{Op: "GetBucketInventoryConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"inventory", "id"}, Action: "s3:GetInventoryConfiguration", handle: h.forward.pass},
		{Op: "GetBucketLifecycleConfiguration", Also: []string{"GetBucketLifecycle"}, Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"lifecycle"}, Action: "s3:GetLifecycleConfiguration", handle: h.forward.pass},
		{Op: "GetBucketLocation", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"location"}, Action: "s3:GetBucketLocation", handle: h.forward.pass},
		{Op: "GetBucketLogging", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"logging"}, Action: "s3:GetBucketLogging", handle: h.forward.pass},
		{Op: "GetBucketMetadataConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metadataConfiguration"}, Action: "s3:GetBucketMetadataTableConfiguration", handle: h.forward.pass},
		{Op: "GetBucketMetadataTableConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metadataTable"}, Action: "s3:GetBucketMetadataTableConfiguration", handle: h.forward.pass},
		{Op: "GetBucketMetricsConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metrics", "id"}, Action: "s3:GetMetricsConfiguration", handle: h.forward.pass},
		{Op: "GetBucketNotificationConfiguration", Also: []string{"GetBucketNotification"}, Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"notification"}, Action: "s3:GetBucketNotification", handle: h.forward.pass},
		{Op: "GetBucketOwnershipControls", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"ownershipControls"}, Action: "s3:GetBucketOwnershipControls", handle: h.forward.pass},
		{Op: "GetBucketPolicy", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"policy"}, Action: "s3:GetBucketPolicy", handle: h.forward.pass},
		{Op: "GetBucketPolicyStatus", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"policyStatus"}, Action: "s3:GetBucketPolicyStatus", handle: h.forward.pass},
		{Op: "GetBucketReplication", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"replication"}, Action: "s3:GetReplicationConfiguration", handle: h.forward.pass},
		{Op: "GetBucketRequestPayment", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"requestPayment"}, Action: "s3:GetBucketRequestPayment", handle: h.forward.pass},
		{Op: "GetBucketTagging", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"tagging"}, Action: "s3:GetBucketTagging", handle: h.forward.pass},
		{Op: "GetBucketVersioning", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"versioning"}, Action: "s3:GetBucketVersioning", handle: h.forward.pass},
		{Op: "GetBucketWebsite", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"website"}, Action: "s3:GetBucketWebsite", handle: h.forward.pass},
		{Op: "GetObjectLockConfiguration", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"object-lock"}, Action: "s3:GetBucketObjectLockConfiguration", handle: h.forward.pass},
		{Op: "GetPublicAccessBlock", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"publicAccessBlock"}, Action: "s3:GetBucketPublicAccessBlock", handle: h.forward.pass},
		{Op: "ListBucketAnalyticsConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"analytics"}, Options: []string{"continuation-token"}, Action: "s3:GetAnalyticsConfiguration", handle: h.forward.pass},
		{Op: "ListBucketIntelligentTieringConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"intelligent-tiering"}, Options: []string{"continuation-token"}, Action: "s3:GetIntelligentTieringConfiguration", handle: h.forward.pass},
		{Op: "ListBucketInventoryConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"inventory"}, Options: []string{"continuation-token"}, Action: "s3:GetInventoryConfiguration", handle: h.forward.pass},
		{Op: "ListBucketMetricsConfigurations", Class: Forwarded, Method: "GET", Level: BucketLevel, Query: []string{"metrics"}, Options: []string{"continuation-token"}, Action: "s3:GetMetricsConfiguration", handle: h.forward.pass},
	}
}

// bucketPutRoutes are the operations that set the configuration of a bucket.
func bucketPutRoutes(h *handlers) []Route {
	return []Route{
		{Op: "PutBucketAbac", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"abac"}, Action: "s3:PutBucketAbac", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketAccelerateConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"accelerate"}, Action: "s3:PutAccelerateConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketAcl", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"acl"}, Action: "s3:PutBucketAcl", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketAnalyticsConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"analytics", "id"}, Action: "s3:PutAnalyticsConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketCors", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"cors"}, Action: "s3:PutBucketCORS", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketEncryption", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"encryption"}, Action: "s3:PutEncryptionConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketIntelligentTieringConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"intelligent-tiering", "id"}, Action: "s3:PutIntelligentTieringConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketInventoryConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"inventory", "id"}, Action: "s3:PutInventoryConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketLifecycleConfiguration", Also: []string{"PutBucketLifecycle"}, Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"lifecycle"}, Action: "s3:PutLifecycleConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketLogging", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"logging"}, Action: "s3:PutBucketLogging", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketMetricsConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metrics", "id"}, Action: "s3:PutMetricsConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketNotificationConfiguration", Also: []string{"PutBucketNotification"}, Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"notification"}, Action: "s3:PutBucketNotification", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketOwnershipControls", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"ownershipControls"}, Action: "s3:PutBucketOwnershipControls", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketPolicy", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"policy"}, Action: "s3:PutBucketPolicy", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketReplication", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"replication"}, Action: "s3:PutReplicationConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketRequestPayment", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"requestPayment"}, Action: "s3:PutBucketRequestPayment", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketTagging", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"tagging"}, Action: "s3:PutBucketTagging", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketVersioning", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"versioning"}, Action: "s3:PutBucketVersioning", Body: Document, handle: h.forward.pass},
		{Op: "PutBucketWebsite", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"website"}, Action: "s3:PutBucketWebsite", Body: Document, handle: h.forward.pass},
		{Op: "PutObjectLockConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"object-lock"}, Action: "s3:PutBucketObjectLockConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "PutPublicAccessBlock", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"publicAccessBlock"}, Action: "s3:PutBucketPublicAccessBlock", Body: Document, handle: h.forward.pass},
		{Op: "UpdateBucketMetadataAnnotationTableConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metadataAnnotationTable"}, Action: "s3:UpdateBucketMetadataAnnotationTableConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "UpdateBucketMetadataInventoryTableConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metadataInventoryTable"}, Action: "s3:UpdateBucketMetadataInventoryTableConfiguration", Body: Document, handle: h.forward.pass},
		{Op: "UpdateBucketMetadataJournalTableConfiguration", Class: Forwarded, Method: "PUT", Level: BucketLevel, Query: []string{"metadataJournalTable"}, Action: "s3:UpdateBucketMetadataJournalTableConfiguration", Body: Document, handle: h.forward.pass},
	}
}

func serviceRoutes(h *handlers) []Route {
	return []Route{
		{Op: "ListBuckets", Class: Forwarded, Note: "one list of all upstreams", Method: "GET", Level: ServiceLevel, Options: []string{"max-buckets", "continuation-token", "prefix", "bucket-region"}, Action: "s3:ListAllMyBuckets", handle: h.buckets.listBuckets},
		{Op: "ListDirectoryBuckets", Class: Refused, Method: "GET", Level: ServiceLevel, Query: []string{"max-directory-buckets"}, Options: []string{"continuation-token"}, Note: "for directory buckets only", handle: refused},
		{Op: "WriteGetObjectResponse", Class: Refused, Method: "POST", Level: ServiceLevel, Header: "X-Amz-Request-Route", Note: "belongs to Object Lambda's own endpoint", handle: refused},
	}
}

// otherRoutes match every request that is not an S3 operation. They need the right to everything.
func otherRoutes(h *handlers) []Route {
	return []Route{
		{Op: "Other", Class: Forwarded, Level: ObjectLevel, Any: true, Action: policy.Unlisted, Body: Content, Note: "any other request that names an object: only for identities that may do everything", handle: h.forward.other},
		{Op: "Other", Class: Forwarded, Level: AnyLevel, Any: true, Action: policy.Unlisted, Body: Document, Note: "any other request: only for identities that may do everything", handle: h.forward.pass},
	}
}
