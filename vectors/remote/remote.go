// Package remote keeps vector collections in the upstream: the objects below the bucket and prefix that
// the operator names. It finds out whether the upstream honours conditional writes, owns the prefix for
// one gateway, uploads parts and reads them back, commits manifests and the catalog, finds what stands in
// for a damaged object, and removes garbage. docs/vector-format.md has the layout.
//
// A commit happens wholly or not at all, and its caller learns which, also if the response is lost: a
// document that has the writer, epoch and nonce of an attempt is that attempt's. Nothing that another
// gateway wrote is overwritten: every commit names the ETag of the document that it replaces. An error
// that wraps akigw.ErrUpstreamUnavailable leaves the outcome open, and the same call may be repeated.
package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/segment"
)

// ErrConditions means that the upstream ignores or refuses conditional writes. It cannot keep vector
// collections.
const ErrConditions = akigw.Error("the upstream does not honour conditional writes (If-None-Match and If-Match on PutObject), without which two gateways could overwrite each other's vector collections: use an upstream that does, or leave vectors.bucket empty")

// Sender uploads large objects in parts. uploadpool.Pool implements it.
type Sender interface {
	// Send writes an object as one multipart upload that leaves nothing behind, with as many parts in
	// parallel as it is configured for. body may be read by several goroutines at a time.
	Send(ctx context.Context, to akigw.Key, contentType string, body io.ReaderAt, size int64) error
}

// Options configure a Remote.
type Options struct {
	Upstream cold.Doer
	// Bucket and Prefix are where the objects are. Prefix ends with a slash, or is "".
	Bucket, Prefix string
	// Writer is the ID of the gateway's data directory, which no other one has.
	Writer string
	// Keep is how many manifests of a collection, and how many catalogs, keep what they need: at least 1.
	Keep int
	// Dir is the directory for downloaded parts, "" for that of os.TempDir. It must exist.
	Dir string
	// Sender uploads parts of more than PutBytes bytes. nil: all are uploaded in one request, which S3
	// limits to 5 GiB.
	Sender   Sender
	PutBytes int64 // 0: 32 MiB
	// Log receives what was repaired, and what is tried again later.
	Log *slog.Logger
}

// Remote is the objects below a prefix. Its methods may be called from any goroutine, except that only
// one at a time may commit the same document.
type Remote struct {
	Options
	objects *objects

	mu      sync.Mutex
	owner   segment.Owner     // the zero value before Acquire; guarded by mu
	fenced  bool              // another gateway has the prefix; guarded by mu
	pending map[string][]byte // committed documents that have no copy yet, by their names; guarded by mu
	suspect map[string]bool   // documents that were replaced by older copies, by their names; guarded by mu
}

// defaultPut is Options.PutBytes if that is 0.
const defaultPut = 32 << 20

// Open probes the upstream. The error is ErrConditions if it does not honour conditional writes, and
// akigw.ErrUpstreamUnavailable if it cannot be reached: then Open may be called again later. Open takes
// possession of nothing.
func Open(ctx context.Context, o Options) (*Remote, error) {
	if o.Writer == "" || o.Keep < 1 || o.Bucket == "" || o.Upstream == nil || o.Prefix != "" && !strings.HasSuffix(o.Prefix, "/") {
		return nil, errors.New("vector collections: the upstream, a bucket, a prefix that ends with a slash, a writer, and at least one manifest to keep are needed")
	}
	if o.PutBytes == 0 {
		o.PutBytes = defaultPut
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Remote{Options: o, objects: &objects{upstream: o.Upstream, bucket: o.Bucket, prefix: o.Prefix}, pending: map[string][]byte{}, suspect: map[string]bool{}}
	if err := repeat(ctx, func() error { return r.probe(ctx) }); err != nil {
		return nil, fmt.Errorf("probe of the upstream for vector collections: %w", err)
	}
	return r, nil
}

// probePrefix begins the names of the objects of probes.
const probePrefix = "probe-"

// probe writes an object under conditions that hold and that do not, and removes it. Each probe has an
// object of its own, so that requests of an earlier one do not confuse it.
func (r *Remote) probe(ctx context.Context) (err error) {
	name := probePrefix + rand.Text()
	defer func() {
		if left := r.objects.remove(ctx, name); left != nil && err == nil { // Sweep removes it
			r.Log.Warn("the object of a probe is left in the upstream for now", "key", r.objects.key(name).String(), "error", left)
		}
	}()
	first, second := []byte("{}\n"), []byte("{} \n")
	etag, err := r.objects.put(ctx, name, first, create)
	switch {
	case errors.Is(err, errCondition):
		return r.delivered(ctx, name, first, "If-None-Match: * failed for a key that has no object")
	case err != nil:
		return unsupported(err)
	}
	if etag == "" {
		got, err := r.objects.get(ctx, name)
		if err != nil {
			return err
		}
		etag = got.etag
	}
	for _, c := range []struct {
		condition
		holds bool
		text  string
	}{
		{create, false, "If-None-Match: * replaced an object"},
		{condition{ifMatch: `"00000000000000000000000000000000"`}, false, "If-Match with another ETag replaced an object"},
		{condition{ifMatch: etag}, true, "If-Match failed with the ETag of the object"},
	} {
		_, err := r.objects.put(ctx, name, second, c.condition)
		switch {
		case err == nil && c.holds, errors.Is(err, errCondition) && !c.holds:
		case errors.Is(err, errCondition):
			return r.delivered(ctx, name, second, c.text)
		case err == nil:
			return fmt.Errorf("%w: %s", ErrConditions, c.text)
		default:
			return unsupported(err)
		}
	}
	return nil
}

// delivered returns the error for a write that failed although its condition holds. A request that was
// delivered twice fails like that the second time; then its document is there, and the probe proves
// nothing.
func (r *Remote) delivered(ctx context.Context, name string, document []byte, text string) error {
	got, err := r.objects.get(ctx, name)
	switch {
	case err == nil && bytes.Equal(got.body, document):
		return fmt.Errorf("%w: a request was delivered twice", akigw.ErrUpstreamUnavailable)
	case err != nil && !errors.Is(err, ErrAbsent):
		return err
	}
	return fmt.Errorf("%w: %s", ErrConditions, text)
}

// unsupported marks the error of an upstream that does not know conditional writes.
func unsupported(err error) error {
	var refused *cold.ResponseError
	if errors.As(err, &refused) && (refused.Status == http.StatusNotImplemented || refused.Status == http.StatusBadRequest) && !errors.Is(err, akigw.ErrUpstreamUnavailable) {
		return fmt.Errorf("%w: %w", ErrConditions, err)
	}
	return err
}

// digest is the SHA-256 of a document.
func digest(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// Collection locates the objects of one lifetime of an index.
type Collection struct {
	Bucket, Index string
	Incarnation   vectors.Incarnation
}

// CollectionOf returns the place of the collection that a head is of.
func CollectionOf(h segment.Head) Collection {
	return Collection{Bucket: h.Bucket, Index: h.Index, Incarnation: h.Incarnation}
}

// dir is the directory of a collection below the prefix.
func (c Collection) dir() string {
	return c.Bucket + "/" + c.Index + "/" + string(c.Incarnation) + "/"
}

// String returns the names, for messages.
func (c Collection) String() string { return c.Bucket + "/" + c.Index }

// parseDir splits the name of an object into its collection and the rest.
func parseDir(name string) (c Collection, rest string, ok bool) {
	f := strings.Split(name, "/")
	if len(f) != 4 {
		return c, "", false
	}
	c = Collection{f[0], f[1], vectors.Incarnation(f[2])}
	return c, f[3], vectors.ValidName(c.Bucket) && vectors.ValidName(c.Index) && c.Incarnation.Valid()
}

// now is the time that goes into documents.
func now() time.Time { return time.Now().UTC() }
