package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/segment"
)

// unknownFor is how old an object must be, by the upstream's clock, before it is removed although no
// manifest ever named it: an upload may be under way, or its commit.
const unknownFor = 24 * time.Hour

// Live is what the gateway knows of objects that no manifest names.
type Live struct {
	// Collection reports whether a collection exists, whether or not the catalog object has it yet.
	Collection func(Collection) bool
	// InUse reports whether a part is being read, or is in the journal because it will be committed.
	InUse func(c Collection, part string) bool
}

// Swept is what a Sweep did.
type Swept struct {
	Removed int   // objects
	Bytes   int64 // of them
	// Unknown are objects that no manifest names and that are too young to be removed.
	Unknown int
}

// Sweep removes the parts that neither the current manifest of a collection nor one of the Keep before
// it names, older copies of documents, and, 24 hours after they were written, parts that no manifest
// ever named, collections that are not live, and objects of probes. Objects with other names are not
// touched. A collection whose manifests cannot all be read keeps everything, and the error says so; the
// others are swept. Sweep stops if the gateway does not have the prefix, or the upstream is not available.
func (r *Remote) Sweep(ctx context.Context, live Live) (done Swept, err error) {
	if err := r.CheckOwner(ctx); err != nil {
		return done, err
	}
	s := &sweep{Remote: r, live: live, swept: &done}
	if err := s.list(ctx); err != nil {
		return done, fmt.Errorf("sweep of the vector collections: %w", err)
	}
	errs := []error{s.top(ctx)}
	for _, c := range slices.SortedFunc(maps.Keys(s.found), func(a, b Collection) int { return strings.Compare(a.dir(), b.dir()) }) {
		if last := errs[len(errs)-1]; ctx.Err() != nil || errors.Is(last, akigw.ErrUpstreamUnavailable) || errors.Is(last, ErrFenced) {
			break
		}
		if err := s.collection(ctx, c, s.found[c]); err != nil {
			errs = append(errs, fmt.Errorf("sweep of %s (incarnation %s): %w", c, c.Incarnation, err))
		}
	}
	return done, errors.Join(errs...)
}

// sweep is one Sweep.
type sweep struct {
	*Remote
	live  Live
	swept *Swept
	now   time.Time // the upstream's; zero if it does not say

	others []listed // below the prefix, and in no collection
	found  map[Collection]*content
}

// listed is an object of a listing.
type listed struct {
	name     string
	size     int64
	modified time.Time // zero if the upstream wrote it in another form
}

// content is the objects of a collection.
type content struct {
	parts, copies []listed
	manifest      *listed
}

// list lists all objects below the prefix.
func (s *sweep) list(ctx context.Context) error {
	got, err := s.objects.get(ctx, ownerName)
	if err != nil {
		return err
	}
	if at, err := http.ParseTime(got.date); err == nil {
		s.now = at
	}
	s.found = map[Collection]*content{}
	return s.objects.list(ctx, "", func(name string, o cold.Listed) error {
		l := listed{name: name, size: o.Size}
		if at, err := time.Parse(time.RFC3339, o.LastModified); err == nil {
			l.modified = at
		}
		c, rest, ok := parseDir(name)
		if !ok {
			s.others = append(s.others, l)
			return nil
		}
		in := s.found[c]
		if in == nil {
			in = &content{}
			s.found[c] = in
		}
		_, _, _, isPart := segment.ParsePartName(rest)
		_, isCopy := manifests(c).copyOf(rest)
		switch {
		case isPart:
			in.parts = append(in.parts, l)
		case isCopy:
			in.copies = append(in.copies, l)
		case name == manifests(c).name():
			in.manifest = &l
		}
		return nil
	})
}

// old reports whether an object is old enough to be removed although nothing is known about it.
func (s *sweep) old(l listed) bool {
	return !s.now.IsZero() && !l.modified.IsZero() && s.now.Sub(l.modified) > unknownFor
}

// top removes old copies of the catalog, and what probes left.
func (s *sweep) top(ctx context.Context) error {
	var garbage, copies []listed
	p := catalogs()
	for _, l := range s.others {
		if _, ok := p.copyOf(l.name); ok {
			copies = append(copies, l)
		}
		if strings.HasPrefix(l.name, probePrefix) && s.old(l) {
			garbage = append(garbage, l)
		}
	}
	if len(copies) > s.Keep+1 {
		v, err := s.current(ctx, p)
		if err != nil {
			return errors.Join(err, s.removeAll(ctx, garbage))
		}
		_, old := s.split(p, copies, v.generation)
		garbage = append(garbage, old...)
	}
	return s.removeAll(ctx, garbage)
}

// current reads a document itself, not what can stand in for it.
func (s *sweep) current(ctx context.Context, p place) (version, error) {
	got, err := s.objects.get(ctx, p.name())
	if err != nil {
		return version{}, err
	}
	v, err := p.parse(got.body)
	if err != nil {
		return version{}, fmt.Errorf("%s: %w", s.Remote.objects.key(p.name()), err)
	}
	return v, nil
}

// split divides copies into those that are kept and older ones.
func (s *sweep) split(p place, copies []listed, current uint64) (kept, old []listed) {
	for _, l := range copies {
		if g, _ := p.copyOf(strings.TrimPrefix(l.name, p.dir)); g+uint64(s.Keep) < current {
			old = append(old, l)
		} else {
			kept = append(kept, l)
		}
	}
	return kept, old
}

// collection removes the garbage of one collection.
func (s *sweep) collection(ctx context.Context, c Collection, in *content) error {
	if !s.live.Collection(c) {
		return s.lost(ctx, in)
	}
	p := manifests(c)
	needed, known := map[string]bool{}, map[string]bool{}
	for _, l := range in.parts { // before the manifest is read: what leaves the journal by then is in it
		if part := strings.TrimPrefix(l.name, p.dir); s.live.InUse(c, part) {
			needed[part] = true
		}
	}
	var old []listed
	if in.manifest != nil || len(in.copies) > 0 {
		current, err := s.current(ctx, p)
		if err != nil {
			return err
		}
		name(needed, current)
		var kept []listed
		if kept, old = s.split(p, in.copies, current.generation); len(old) > 0 || s.more(c, in.parts, needed) {
			for _, l := range kept {
				v, err := s.parse(ctx, p, l)
				if err != nil {
					return err
				}
				name(needed, v)
			}
		}
		for _, l := range old {
			v, err := s.parse(ctx, p, l)
			if err == nil {
				name(known, v)
			} else if !errors.Is(err, segment.ErrCorrupt) && !errors.Is(err, ErrAbsent) {
				return err
			}
		}
	}
	var garbage []listed
	for _, l := range in.parts {
		part := strings.TrimPrefix(l.name, p.dir)
		switch {
		case needed[part]:
		case known[part] || s.old(l):
			garbage = append(garbage, l)
		default:
			s.swept.Unknown++
		}
	}
	return s.removeAll(ctx, append(garbage, old...)) // the copies last: they say what is known
}

// more reports whether there are parts that may be garbage.
func (s *sweep) more(c Collection, parts []listed, needed map[string]bool) bool {
	return slices.ContainsFunc(parts, func(l listed) bool { return !needed[strings.TrimPrefix(l.name, c.dir())] })
}

// name adds the objects that a manifest needs.
func name(names map[string]bool, v version) {
	if m, ok := v.value.(*segment.Manifest); ok {
		for _, n := range m.Names() {
			names[n] = true
		}
	}
}

// parse reads a copy.
func (s *sweep) parse(ctx context.Context, p place, l listed) (version, error) {
	got, err := s.objects.get(ctx, l.name)
	if err != nil {
		return version{}, err
	}
	v, err := p.parse(got.body)
	if err != nil {
		return version{}, fmt.Errorf("%s: %w", s.Remote.objects.key(l.name), err)
	}
	return v, nil
}

// lost removes a collection that nobody knows, if all of it is old.
func (s *sweep) lost(ctx context.Context, in *content) error {
	all := slices.Concat(in.parts, in.copies)
	if in.manifest != nil { // first, so that no manifest is left without its parts
		all = slices.Insert(all, 0, *in.manifest)
	}
	if slices.ContainsFunc(all, func(l listed) bool { return !s.old(l) }) {
		s.swept.Unknown += len(all)
		return nil
	}
	return s.removeAll(ctx, all)
}

// removeAll removes objects in order, if the gateway still has the prefix.
func (s *sweep) removeAll(ctx context.Context, garbage []listed) error {
	if len(garbage) == 0 {
		return nil
	}
	if err := s.CheckOwner(ctx); err != nil {
		return err
	}
	for _, l := range garbage {
		if err := s.objects.remove(ctx, l.name); err != nil {
			return err
		}
		s.swept.Removed++
		s.swept.Bytes += l.size
	}
	return nil
}

// DropCollection removes all objects of a collection that was deleted. It may be repeated after an
// error; the catalog should name the collection as dropped until it succeeds.
func (r *Remote) DropCollection(ctx context.Context, c Collection) error {
	if err := r.CheckOwner(ctx); err != nil {
		return err
	}
	p := manifests(c)
	err := r.objects.remove(ctx, p.name()) // first, so that no manifest is left without its parts
	if err == nil {
		var names []string
		err = r.objects.list(ctx, c.dir(), func(name string, _ cold.Listed) error {
			names = append(names, name)
			return nil
		})
		for i := len(names) - 1; i >= 0 && err == nil; i-- { // the copies of the manifest before the parts
			err = r.objects.remove(ctx, names[i])
		}
	}
	if err != nil {
		return fmt.Errorf("removal of the objects of %s (incarnation %s): %w", c, c.Incarnation, err)
	}
	r.note(p, nil, false)
	return nil
}
