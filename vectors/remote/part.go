package remote

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/segment"
)

// contentType is that of parts.
const contentType = "application/vnd.apache.parquet"

// checksumHeader has the SHA-256 of an object in base64, from an upstream that computes it.
const checksumHeader = "X-Amz-Checksum-Sha256"

// PutPart uploads a part of a collection, and reads it back: nil means that the upstream has exactly
// these bytes. body has part.Bytes bytes, whose SHA-256 is part.SHA256; it may be read by several
// goroutines at a time. Uploading the same part again is harmless. The error is
// akigw.ErrUpstreamUnavailable if the outcome is not known after several attempts, and
// segment.ErrCorrupt if the upstream stored other bytes each time.
func (r *Remote) PutPart(ctx context.Context, c Collection, part segment.Part, body io.ReaderAt) error {
	name := c.dir() + part.Name
	if part.Name != segment.PartName(part.Level, part.MaxSeq, part.SHA256) {
		return fmt.Errorf("%s: %w: the name of the part is not that of its content", r.objects.key(name), segment.ErrRow)
	}
	if _, err := r.mine(); err != nil {
		return err
	}
	var damaged error
	for n := 0; ; n++ {
		sent := r.send(ctx, name, part, body)
		if sent != nil && (!errors.Is(sent, akigw.ErrUpstreamUnavailable) || ctx.Err() != nil) {
			return fmt.Errorf("upload of %s: %w", r.objects.key(name), sent)
		}
		err := r.verify(ctx, name, part, body) // also if the outcome is unknown
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrAbsent) && !errors.Is(err, segment.ErrCorrupt) && !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			return fmt.Errorf("read-back of %s: %w", r.objects.key(name), err)
		}
		damaged = errors.Join(sent, err)
		if sent == nil && errors.Is(err, ErrAbsent) {
			damaged = fmt.Errorf("%w: it was uploaded, and is not there: %w", akigw.ErrUpstreamUnavailable, err)
		}
		if n == attempts-1 {
			return fmt.Errorf("upload of %s: %w", r.objects.key(name), damaged)
		}
		if ended := wait(ctx, n); ended != nil {
			return errors.Join(ended, damaged)
		}
	}
}

// send uploads a part once.
func (r *Remote) send(ctx context.Context, name string, part segment.Part, body io.ReaderAt) error {
	if part.Bytes > r.PutBytes && r.Sender != nil {
		within, cancel := context.WithTimeoutCause(ctx, patienceFor(part.Bytes), cold.ErrDeadline)
		defer cancel()
		err := r.Sender.Send(within, r.objects.key(name), contentType, body, part.Bytes)
		if err != nil && within.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
		}
		return err
	}
	raw, err := hex.DecodeString(part.SHA256)
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {contentType}, checksumHeader: {base64.StdEncoding.EncodeToString(raw)}}
	q := &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: r.objects.key(name), Header: header, Body: io.NewSectionReader(body, 0, part.Bytes), Length: part.Bytes, SHA256: part.SHA256}
	rep, err := r.objects.do(ctx, q, part.Bytes, nil)
	if err == nil && (rep.status/100 != 2 || rep.code() != "") {
		err = r.objects.refusal(q, &rep)
	}
	return err
}

// verify checks that the upstream has a part: by the SHA-256 that it computed, by an ETag that is the MD5,
// or else by reading all of it.
func (r *Remote) verify(ctx context.Context, name string, part segment.Part, body io.ReaderAt) error {
	h, size, err := r.objects.head(ctx, name)
	if err != nil {
		return err
	}
	if size >= 0 && size != part.Bytes {
		return fmt.Errorf("%w: the upstream has %d bytes instead of %d", segment.ErrCorrupt, size, part.Bytes)
	}
	if sum := h.Get(checksumHeader); sum != "" && !strings.Contains(sum, "-") {
		raw, err := base64.StdEncoding.DecodeString(sum)
		if err == nil && hex.EncodeToString(raw) == part.SHA256 {
			return nil
		}
	}
	same, err := isMD5(h.Get("Etag"), body, part.Bytes)
	if err != nil || same {
		return err
	}
	return r.fetch(ctx, name, part, io.Discard)
}

// isMD5 reports whether an ETag is the MD5 of a body. One that is not may still be that of the same
// bytes, in an encrypted bucket or after a multipart upload.
func isMD5(etag string, body io.ReaderAt, size int64) (bool, error) {
	if len(strings.Trim(etag, `"`)) != 2*md5.Size {
		return false, nil
	}
	sum := md5.New()
	if _, err := io.Copy(sum, io.NewSectionReader(body, 0, size)); err != nil {
		return false, err
	}
	return sameETag(etag, hex.EncodeToString(sum.Sum(nil))), nil
}

// fetch reads a part once into w, and checks its size and SHA-256. After an error w may have any
// bytes.
func (r *Remote) fetch(ctx context.Context, name string, part segment.Part, w io.Writer) error {
	q := &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: r.objects.key(name), Header: http.Header{"Cache-Control": {"no-cache"}}, Bytes: part.Bytes}
	sum := sha256.New()
	counted := &counter{}
	rep, err := r.objects.do(ctx, q, part.Bytes, io.MultiWriter(sink{w}, sum, counted))
	switch {
	case err != nil:
		return err
	case rep.status != http.StatusOK:
		return r.objects.refusal(q, &rep)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); counted.n != part.Bytes || got != part.SHA256 {
		return fmt.Errorf("%s: %w: the upstream has %d bytes with the SHA-256 %s", q.Key, segment.ErrCorrupt, counted.n, got)
	}
	return nil
}

// counter counts bytes.
type counter struct{ n int64 }

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// ReadPart downloads a part into a file without a name, which the caller closes, and verifies it. The
// error is segment.ErrCorrupt if the upstream sent other bytes twice, ErrAbsent if it does not have the
// object, akigw.ErrUpstreamUnavailable, or that of the disk.
func (r *Remote) ReadPart(ctx context.Context, c Collection, part segment.Part) (*os.File, error) {
	f, err := os.CreateTemp(r.Dir, "vectors-*.parquet")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	for n := 0; err == nil; n++ {
		if err = r.fetch(ctx, c.dir()+part.Name, part, f); err == nil {
			return f, nil
		}
		again := errors.Is(err, akigw.ErrUpstreamUnavailable) && n < attempts-1 || errors.Is(err, segment.ErrCorrupt) && n < 1
		if !again || ctx.Err() != nil {
			break
		}
		if ended := wait(ctx, n); ended != nil {
			err = errors.Join(ended, err)
			break
		}
		_, sought := f.Seek(0, io.SeekStart)
		err = errors.Join(f.Truncate(0), sought)
	}
	return nil, errors.Join(fmt.Errorf("part %s of %s: %w", part.Name, c, err), f.Close())
}

// File is the bytes of a part. The caller closes it.
type File interface {
	io.ReaderAt
	io.Closer
}

// Opened is a part whose file is verified.
type Opened struct {
	segment.Part
	File
	Source Source
}

// OpenPart returns the rows of a part of m: usually as one file, from the upstream. If the object is
// damaged or gone, the local copy stands in for it, and then the inputs of the merge that wrote it, in
// order; they have the same rows. The caller closes all. local returns the local copy of a part, nil if
// there is none; local may be nil. The error is segment.ErrCorrupt or ErrAbsent if all of these are
// lost (see OlderManifest), or akigw.ErrUpstreamUnavailable: then nothing is lost.
func (r *Remote) OpenPart(ctx context.Context, m *segment.Manifest, part segment.Part, local func(segment.Part) (File, error)) ([]Opened, error) {
	return r.openPart(ctx, m, part, local, 0)
}

// maxDepth bounds how many merges are undone to replace a part.
const maxDepth = 16

func (r *Remote) openPart(ctx context.Context, m *segment.Manifest, part segment.Part, local func(segment.Part) (File, error), depth int) ([]Opened, error) {
	f, lost := r.ReadPart(ctx, CollectionOf(m.Head), part)
	if lost == nil {
		return []Opened{{part, f, FromUpstream}}, nil
	}
	if !errors.Is(lost, segment.ErrCorrupt) && !errors.Is(lost, ErrAbsent) {
		return nil, lost
	}
	if local != nil {
		f, err := openLocal(ctx, part, local)
		if err == nil && f != nil {
			r.Log.Error("a part is damaged or gone in the upstream; the local copy stands in for it", "part", part.Name, "collection", CollectionOf(m.Head).String(), "error", lost)
			return []Opened{{part, f, FromLocal}}, nil
		}
		lost = errors.Join(lost, err)
	}
	inputs, ok := m.Inputs(part.Name)
	if !ok || depth == maxDepth {
		return nil, lost
	}
	var all []Opened
	for _, input := range inputs {
		opened, err := r.openPart(ctx, m, input, local, depth+1)
		if err != nil {
			return nil, errors.Join(lost, err, closeAll(all))
		}
		all = append(all, opened...)
	}
	for i := range all {
		all[i].Source = FromInputs
	}
	r.Log.Error("a part is damaged or gone in the upstream; the inputs of its merge stand in for it", "part", part.Name, "collection", CollectionOf(m.Head).String(), "error", lost)
	return all, nil
}

// openLocal returns the local copy of a part if it is intact, nil if there is none.
func openLocal(ctx context.Context, part segment.Part, local func(segment.Part) (File, error)) (File, error) {
	f, err := local(part)
	if err != nil || f == nil {
		return nil, err
	}
	if err := segment.Verify(ctx, f, part.Summary); err != nil {
		return nil, errors.Join(fmt.Errorf("local copy of %s: %w", part.Name, err), f.Close())
	}
	return f, nil
}

// closeAll closes the files of parts.
func closeAll(all []Opened) error {
	var errs []error
	for _, o := range all {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}
