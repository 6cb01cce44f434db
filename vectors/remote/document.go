package remote

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/segment"
)

// The errors about documents.
const (
	// ErrStale means that the document in the upstream is not the one that the commit would have
	// replaced, although this gateway still has the prefix: a commit that this gateway, or the previous
	// owner, had given up has arrived late. Load it again.
	ErrStale = akigw.Error("the document in the upstream has changed; load it again before it is replaced")
	// ErrDegraded means that a document was damaged and an older one stands in for it: it must not be
	// committed from, because that would make the loss final.
	ErrDegraded = akigw.Error("it is an older copy that stands in for a damaged document, and nothing is committed from it: restore the damaged document from a backup of the bucket or from its earlier version")
)

// A manifest or catalog is at NAME.json, which its commits replace, and at NAME-GENERATION.json, a copy
// for the case that NAME.json is damaged. A copy is written after the commit of its generation and before
// the next one. So the last copy is that of NAME.json, or, if the gateway crashed in between, that of the
// generation before.

// place is where a document and its copies are.
type place struct {
	dir, base string
	parse     func([]byte) (version, error)
}

// version is a document that was parsed.
type version struct {
	commit     segment.Commit
	generation uint64
	value      any // *segment.Manifest or *segment.Catalog
}

func (p place) name() string { return p.dir + p.base + ".json" }

// copyName is the name of the copy of a generation.
func (p place) copyName(generation uint64) string {
	return fmt.Sprintf("%s%s-%020d.json", p.dir, p.base, generation)
}

// copyOf parses the name of a copy, without its directory.
func (p place) copyOf(name string) (generation uint64, ok bool) {
	digits, begins := strings.CutPrefix(name, p.base+"-")
	digits, ends := strings.CutSuffix(digits, ".json")
	generation, err := strconv.ParseUint(digits, 10, 64)
	return generation, begins && ends && len(digits) == 20 && err == nil
}

// loaded is a document that was found.
type loaded struct {
	version
	document []byte
	etag     string // of NAME.json, whatever is wrong with it
	source   Source
	degraded bool
}

// Source says where a document or the rows of a part came from.
type Source string

// The sources.
const (
	FromUpstream Source = "upstream" // the object itself
	FromLocal    Source = "local"    // the local copy
	FromCopy     Source = "copy"     // the copy of a document in the upstream
	FromInputs   Source = "inputs"   // the inputs of the merge that wrote the part
)

// load reads a document. If it is damaged or gone although there are copies, it is read again; then
// the local copy and the copies stand in for it. local may be nil, and returns nil if there is no
// local copy.
func (r *Remote) load(ctx context.Context, p place, local func() ([]byte, error)) (loaded, error) {
	var got object
	var err error
	for range 2 {
		got, err = r.objects.get(ctx, p.name())
		if err != nil && !errors.Is(err, ErrAbsent) {
			return loaded{}, err
		}
		if err == nil {
			var v version
			if v, err = p.parse(got.body); err == nil {
				r.note(p, got.body, false)
				return loaded{version: v, document: got.body, etag: got.etag, source: FromUpstream}, nil
			}
			err = fmt.Errorf("%s: %w", r.objects.key(p.name()), err)
		}
		if errors.Is(err, segment.ErrFormat) {
			return loaded{}, err
		}
	}
	l, err := r.standIn(ctx, p, got, err, local)
	if err != nil {
		return loaded{}, err
	}
	r.note(p, nil, l.degraded)
	r.Log.Error("a document of the vector collections is damaged or gone; another one stands in for it", "key", r.objects.key(p.name()).String(),
		"source", string(l.source), "generation", l.generation, "degraded", l.degraded)
	return l, nil
}

// note remembers whether a document may be committed from, and, if document is not nil, that it may
// have no copy.
func (r *Remote) note(p place, document []byte, degraded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.suspect, p.name())
	delete(r.pending, p.name())
	if degraded {
		r.suspect[p.name()] = true
	}
	if document != nil {
		r.pending[p.name()] = document
	}
}

// standIn returns what stands in for a document that is damaged or gone. why is ErrAbsent or
// segment.ErrCorrupt, and is returned if there is nothing.
func (r *Remote) standIn(ctx context.Context, p place, damaged object, why error, local func() ([]byte, error)) (loaded, error) {
	var candidates []loaded
	var problems []error
	add := func(document []byte, source Source) {
		v, err := p.parse(document)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", source, err))
			return
		}
		candidates = append(candidates, loaded{version: v, document: document, etag: damaged.etag, source: source})
	}
	generations, err := r.copies(ctx, p)
	if err != nil {
		return loaded{}, errors.Join(err, why)
	}
	if errors.Is(why, ErrAbsent) && len(generations) == 0 { // it never was
		return loaded{}, why
	}
	if local != nil {
		switch document, err := local(); {
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: %w", FromLocal, err))
		case document != nil:
			add(document, FromLocal)
		}
	}
	for _, generation := range generations { // newest first
		got, err := r.objects.get(ctx, p.copyName(generation))
		if errors.Is(err, akigw.ErrUpstreamUnavailable) {
			return loaded{}, errors.Join(err, why)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		before := len(candidates)
		if add(got.body, FromCopy); len(candidates) > before {
			break
		}
	}
	return r.choose(candidates, damaged, errors.Join(append(problems, why)...))
}

// choose returns the first candidate that is proven to be the document that is damaged, or the one of
// the latest generation as degraded.
func (r *Remote) choose(candidates []loaded, damaged object, why error) (loaded, error) {
	if len(candidates) == 0 {
		return loaded{}, why
	}
	for _, c := range candidates {
		if c.is(damaged) || c.source == FromLocal && r.trusts(c, candidates) {
			return c, nil
		}
	}
	best := slices.MaxFunc(candidates, func(a, b loaded) int { return compare(a.generation, b.generation) })
	best.degraded = true
	return best, nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// is reports whether a damaged object was the document: its ETag is the MD5 of the document, or it
// still contains its nonce, which no other one has.
func (l *loaded) is(damaged object) bool {
	sum := md5.Sum(l.document)
	return sameETag(damaged.etag, hex.EncodeToString(sum[:])) || bytes.Contains(damaged.body, []byte(`"nonce":"`+l.commit.Nonce+`"`))
}

// trusts reports whether a local copy has all that was acknowledged, together with the journal: this
// gateway wrote it, nobody else has had the prefix since, and no copy is newer.
func (r *Remote) trusts(c loaded, all []loaded) bool {
	mine, err := r.mine()
	if err != nil || c.commit.Writer != mine.Writer || c.commit.Epoch < mine.Tenure {
		return false
	}
	for _, other := range all {
		if other.generation > c.generation {
			return false
		}
	}
	return true
}

// copies returns the generations of the copies of a document, newest first.
func (r *Remote) copies(ctx context.Context, p place) (generations []uint64, err error) {
	err = r.objects.list(ctx, p.dir+p.base+"-", func(name string, _ cold.Listed) error {
		if g, ok := p.copyOf(strings.TrimPrefix(name, p.dir)); ok {
			generations = append(generations, g)
		}
		return nil
	})
	slices.Sort(generations)
	slices.Reverse(generations)
	return generations, err
}

// older returns the newest intact copy of a generation before one, as degraded.
func (r *Remote) older(ctx context.Context, p place, before uint64, etag string) (loaded, error) {
	generations, err := r.copies(ctx, p)
	if err != nil {
		return loaded{}, err
	}
	problems := []error{fmt.Errorf("%s before generation %d: %w", r.objects.key(p.name()), before, ErrAbsent)}
	for _, g := range generations {
		if g >= before {
			continue
		}
		got, err := r.objects.get(ctx, p.copyName(g))
		if errors.Is(err, akigw.ErrUpstreamUnavailable) {
			return loaded{}, err
		}
		var v version
		if err == nil {
			v, err = p.parse(got.body)
		}
		if err == nil {
			r.note(p, nil, true)
			return loaded{version: v, document: got.body, etag: etag, source: FromCopy, degraded: true}, nil
		}
		problems = append(problems, fmt.Errorf("generation %d: %w", g, err))
	}
	return loaded{}, errors.Join(problems...)
}

// stamp returns what marks a new attempt to commit.
func (r *Remote) stamp() (segment.Commit, error) {
	mine, err := r.mine()
	return segment.Commit{Writer: mine.Writer, Epoch: mine.Epoch, Nonce: rand.Text()}, err
}

// commit replaces the document with the ETag previous, or creates it if that is "".
func (r *Remote) commit(ctx context.Context, p place, document []byte, stamp segment.Commit, previous string) (etag string, err error) {
	r.mu.Lock()
	degraded := r.suspect[p.name()]
	r.mu.Unlock()
	if degraded {
		return "", fmt.Errorf("%s: %w", r.objects.key(p.name()), ErrDegraded)
	}
	if err := r.copy(ctx, p); err != nil {
		return "", err
	}
	err = repeat(ctx, func() error {
		etag, err = r.tryCommit(ctx, p, document, stamp, previous)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("commit of %s: %w", r.objects.key(p.name()), err)
	}
	r.note(p, document, false)
	if err := r.copy(ctx, p); err != nil { // the next commit writes it, or fails
		r.Log.Warn("the copy of a document will be written later", "key", r.objects.key(p.name()).String(), "error", err)
	}
	return etag, nil
}

// tryCommit writes a document once, and finds out what became of it if the response does not say so.
func (r *Remote) tryCommit(ctx context.Context, p place, document []byte, stamp segment.Commit, previous string) (string, error) {
	etag, err := r.objects.put(ctx, p.name(), document, replacing(previous))
	open := err == nil && etag == "" || errors.Is(err, errCondition) || errors.Is(err, akigw.ErrUpstreamUnavailable) && !errors.Is(err, cold.ErrNotSent)
	if !open {
		return etag, err
	}
	if err == nil {
		err = fmt.Errorf("%w: the response has no ETag", akigw.ErrUpstreamUnavailable)
	}
	got, unread := r.objects.get(ctx, p.name())
	switch {
	case errors.Is(unread, ErrAbsent) && previous != "":
		return "", fmt.Errorf("%w: somebody removed it: %w", ErrStale, unread)
	case errors.Is(unread, ErrAbsent):
		return "", again(err)
	case unread != nil:
		return "", errors.Join(unread, err)
	case bytes.Equal(got.body, document):
		return got.etag, nil
	case previous != "" && sameETag(got.etag, previous): // not carried out, or not yet: the next attempt has the same condition
		return "", again(err)
	}
	found, unread := p.parse(got.body)
	switch {
	case errors.Is(unread, segment.ErrCorrupt): // perhaps only this response was
		return "", fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, unread)
	case unread != nil:
		return "", unread
	}
	return "", r.lost(ctx, found.commit, stamp)
}

// again marks an error after which the same write is tried again.
func again(err error) error {
	if errors.Is(err, akigw.ErrUpstreamUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
}

// lost returns the error for a commit in whose place another document was found. Who has the prefix is
// decided by the owner document: a commit of the previous owner may arrive after it was fenced.
func (r *Remote) lost(ctx context.Context, found, stamp segment.Commit) error {
	if found.Writer != stamp.Writer || found.Epoch > stamp.Epoch {
		if err := r.CheckOwner(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it was written by %s in epoch %d", ErrStale, found.Writer, found.Epoch)
}

// copy writes the copy of a document that was committed or loaded, unless it is there.
func (r *Remote) copy(ctx context.Context, p place) error {
	r.mu.Lock()
	document := r.pending[p.name()]
	r.mu.Unlock()
	if document == nil {
		return nil
	}
	v, err := p.parse(document)
	if err != nil {
		return err
	}
	name := p.copyName(v.generation)
	err = repeat(ctx, func() error {
		_, err := r.objects.put(ctx, name, document, condition{})
		return err
	})
	if err != nil {
		return fmt.Errorf("copy of %s: %w", r.objects.key(p.name()), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(r.pending[p.name()], document) {
		delete(r.pending, p.name())
	}
	return nil
}

// sameETag compares ETags: not every upstream puts quotes around them, and a proxy may weaken them.
func sameETag(a, b string) bool {
	bare := func(etag string) string { return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) }
	return bare(a) == bare(b) && bare(a) != ""
}
