package journal

// rewrite is the part of a segment that is written once more: some of its items and, if those are
// all of them, also everything else that is live in it.
type rewrite struct {
	segment uint64
	items   []uint64
	bodies  map[uint64][]byte // inline bodies, by item
	rest    bool
}

// inlineOf chooses the items that a rewrite covers, and returns those whose inline bodies must be
// read.
func (t *table) inlineOf(r *rewrite) (inline []*item) {
	t.read(func(s *state) {
		size := int64(0)
		for n := range s.in(r.segment).items {
			it := s.items[n]
			r.items = append(r.items, n)
			if it.inline() {
				inline = append(inline, it)
			}
			if size += it.size; size > maxBatch {
				return
			}
		}
		r.rest = true
	})
	return inline
}

// rewritten returns the records of a rewrite in their current form, for what is still live and
// still in the segment. It announces them.
func (t *table) rewritten(r *rewrite) (ops []*op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.state
	for _, n := range r.items {
		if it := s.items[n]; it != nil && it.segment == r.segment {
			ops = append(ops, recordsOf(it, r.bodies[n])...)
		}
	}
	if r.rest {
		ops = append(ops, s.restOf(r.segment)...)
	}
	t.announceLocked(ops)
	return ops
}

// recordsOf returns the records that fully describe a live item.
func recordsOf(it *item, body []byte) []*op {
	o := &op{kind: it.kind, entry: it.entry.ID, key: it.entry.Key, put: it.entry, upload: it.upload, part: it.part, pack: it.pack, offset: it.offset}
	switch {
	case it.kind == kindComplete:
		o.spools, o.checks = it.spools, it.checks
	case it.kind == kindPacked:
		o.text = it.packKey.Name
	case it.kind == kindTranslate:
		o.text = it.etag
	case len(it.spools) > 0:
		o.spool, o.checks = it.spools[0], it.checks
	default:
		o.data = body
	}
	ops := []*op{o}
	if it.remote != "" {
		ops = append(ops, &op{kind: kindUpload, entry: it.entry.ID, key: it.entry.Key, text: it.remote})
	}
	if it.reason != "" {
		ops = append(ops, &op{kind: kindDead, entry: it.entry.ID, key: it.entry.Key, text: it.reason, when: it.since})
	}
	return ops
}

// restOf returns the records of the orphans of a segment, and of some or all of its date pairs.
func (s *state) restOf(segment uint64) (ops []*op) {
	c := s.in(segment)
	for n := range c.orphans {
		o := s.orphans[n]
		ops = append(ops, &op{kind: kindUpload, entry: o.Entry, key: o.Key, text: o.UploadID})
	}
	size := int64(0)
	for _, d := range c.dates {
		ops = append(ops, d.done())
		if size += d.record; size > maxBatch {
			break
		}
	}
	return ops
}
