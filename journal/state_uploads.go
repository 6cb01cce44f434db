package journal

import "slices"

// uploadIndex is the part of a state that holds the clients' multipart uploads.
type uploadIndex struct {
	open      map[uint64]*upload // by number; in a recovery some lack their own record for a while
	named     map[string]*upload // uploads with a record, by ID
	completed completions
}

func newUploadIndex() uploadIndex {
	return uploadIndex{open: map[uint64]*upload{}, named: map[string]*upload{}, completed: completions{named: map[string]*Entry{}}}
}

// upload is an open upload with its parts.
type upload struct {
	item  *item // nil while its record has not been read yet
	parts map[int]*item
}

func (u *upload) public() *Upload {
	e := u.item.entry
	return &Upload{e.ID, e.UploadID, e.Key, e.Modified, e.Header}
}

// get returns an upload by its number, which it creates if necessary.
func (x *uploadIndex) get(number uint64) *upload {
	u := x.open[number]
	if u == nil {
		u = &upload{parts: map[int]*item{}}
		x.open[number] = u
	}
	return u
}

// completions holds the latest entries that were uploads, so that a client that missed the response
// to its completion gets it when it repeats the request.
type completions struct {
	named map[string]*Entry
	order []string // the oldest first
}

// maxCompletions is the number of completions that are remembered.
const maxCompletions = 1000

func (c *completions) add(e *Entry) {
	small := *e
	small.Parts = nil
	c.named[e.UploadID] = &small
	c.order = append(c.order, e.UploadID)
	if len(c.order) > maxCompletions {
		delete(c.named, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
}

// fits checks whether a new record fits the state. The error is ErrNoUpload or ErrNoPart. To a
// record that completes an upload, it adds the files of the parts.
func (s *state) fits(o *op) error {
	number := o.upload
	switch {
	case o.entry != 0 && o.kind != kindAbort: // a record that is rewritten
		return nil
	case o.kind == kindAbort:
		number = o.entry
	case o.kind != kindPart && o.kind != kindComplete:
		return nil
	}
	u := s.uploads.open[number]
	if u == nil {
		return ErrNoUpload
	}
	if o.kind != kindComplete {
		return nil
	}
	return u.complete(o)
}

// complete adds to a record that completes the upload what is known about the named parts.
func (u *upload) complete(o *op) error {
	o.spools, o.checks, o.put.Size = nil, nil, 0
	parts := make([]Part, len(o.put.Parts))
	for i, wanted := range o.put.Parts {
		it := u.parts[wanted.Number]
		if it == nil || it.entry.ETag != wanted.ETag {
			return ErrNoPart
		}
		o.spools, o.checks = append(o.spools, it.spools[0]), append(o.checks, it.checks...)
		o.put.Size += it.entry.Size
		parts[i] = Part{Number: wanted.Number, Size: it.entry.Size, ETag: it.entry.ETag, Header: it.entry.Header}
	}
	o.put.Parts = parts
	if len(o.checks) < len(o.spools) { // an older release wrote the record of a part
		o.checks = nil
	}
	return nil
}

func (s *state) applyBegin(o *op, p place) {
	it := s.place(o, p)
	if it == nil {
		return
	}
	u := s.uploads.get(it.entry.ID)
	u.item = it
	s.uploads.named[it.entry.UploadID] = u
	s.hold(it)
}

// applyPart stores a part. In a recovery the record of its upload may come later, if it was
// rewritten.
func (s *state) applyPart(o *op, p place) {
	it := s.place(o, p)
	if it == nil {
		return
	}
	u := s.uploads.get(o.upload)
	if older := u.parts[o.part]; older != nil {
		if older.entry.ID > it.entry.ID {
			return // its record was rewritten after it had been replaced
		}
		s.free(older)
	}
	u.parts[o.part] = it
	s.hold(it)
}

// endUpload drops an upload and its parts, but not the files in keep.
func (s *state) endUpload(number uint64, keep []uint64) {
	u := s.uploads.open[number]
	if u == nil {
		return
	}
	delete(s.uploads.open, number)
	kept := make(map[uint64]bool, len(keep))
	for _, n := range keep {
		kept[n] = true
	}
	for _, it := range u.parts {
		if part := *it; kept[it.spools[0]] { // readers may share the item
			part.spools = nil
			it = &part
		}
		s.free(it)
	}
	if u.item != nil {
		delete(s.uploads.named, u.item.entry.UploadID)
		s.free(u.item)
		if u.item.remote != "" { // if it was completed there, aborting it does nothing
			s.addOrphan(Orphan{number, u.item.entry.Key, u.item.remote}, u.item.segment)
		}
	}
}

// dropUnnamed drops the parts of uploads that have ended: their records were still there, but not
// that of the upload.
func (s *state) dropUnnamed() {
	for number, u := range s.uploads.open {
		if u.item == nil {
			s.endUpload(number, nil)
		}
	}
}
