package gateway

import (
	"log/slog"

	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// handlers answer calls. Each field has the operations of one kind, and the table of operations
// (operations.go) names the method for each.
type handlers struct {
	forward *forwarder        // forwarded operations
	reads   *objectReads      // GetObject, HeadObject
	writes  *objectWrites     // PutObject, DeleteObject, DeleteObjects
	forms   *formUploads      // PostObject
	copies  *copies           // CopyObject, UploadPartCopy
	uploads *multipartUploads // multipart uploads and their parts
	lists   *listings         // listings of objects, versions and uploads
	buckets *bucketLists      // ListBuckets
}

func newHandlers(store *tiers.Store, writes *writeback.WriteBack, upstream Upstream, reserved Reserved, comparer *compare.Comparer, log *slog.Logger) *handlers {
	f := &forwarder{Store: store, Writes: writes, Upstream: upstream}
	uploads := &multipartUploads{Store: store, Writes: writes, forward: f, log: log, minPart: minPart}
	puts := &objectWrites{Store: store, Writes: writes, forward: f, Upstream: upstream, Reserved: reserved}
	return &handlers{
		forward: f,
		reads:   &objectReads{Store: store, forward: f, compare: comparer, log: log},
		writes:  puts,
		forms:   &formUploads{Upstream: upstream, writes: puts},
		copies:  &copies{Store: store, Writes: writes, forward: f, uploads: uploads},
		uploads: uploads,
		lists:   &listings{Store: store, Writes: writes, forward: f, Upstream: upstream, Reserved: reserved},
		buckets: &bucketLists{forward: f, Upstream: upstream},
	}
}
