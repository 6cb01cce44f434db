package overlay

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers"
)

// pending is a pending change of a key. It implements tiers.Pending.
type pending struct {
	overlay *Overlay
	entry   *journal.Entry
}

// Pending implements tiers.Overlay.
func (o *Overlay) Pending(key akigw.Key) tiers.Pending {
	if e := o.last(key); e != nil {
		return &pending{o, e}
	}
	return nil
}

// Object implements tiers.Pending: it describes the object as the upstream will.
func (p *pending) Object() *akigw.Object {
	e := p.entry
	if e.Deleted {
		return nil
	}
	h := tiers.ObjectHeader(e.Header)
	h.Del("X-Amz-Checksum-Algorithm") // it describes the upload, not the object
	if h.Get("X-Amz-Storage-Class") == "STANDARD" {
		h.Del("X-Amz-Storage-Class") // S3 names every class but this one (GetObject)
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Checksum-") && len(e.Parts) == 0 {
			h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
			break
		}
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "binary/octet-stream") // S3's default
	}
	h["Etag"], h["Last-Modified"], h["Accept-Ranges"] = []string{e.ETag}, []string{e.Modified.UTC().Format(http.TimeFormat)}, []string{"bytes"}
	return &akigw.Object{Key: e.Key, Size: e.Size, ETag: e.ETag, LastModified: e.Modified, Header: h}
}

// Part implements tiers.Pending.
func (p *pending) Part(number int) *tiers.Part {
	at := int64(0)
	for _, part := range p.entry.Parts {
		if part.Number == number {
			h := http.Header{"X-Amz-Mp-Parts-Count": {strconv.Itoa(len(p.entry.Parts))}}
			maps.Copy(h, part.Header)
			return &tiers.Part{Number: number, Status: http.StatusPartialContent, Header: h, Range: akigw.Range{Start: at, Length: part.Size}}
		}
		at += part.Size
	}
	return nil
}

// Open implements tiers.Pending.
func (p *pending) Open(ctx context.Context, s *tiers.Store, r akigw.Range) (tiers.Body, akigw.Outcome, error) {
	return p.overlay.Body(ctx, s, p.entry, r)
}
