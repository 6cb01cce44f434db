package embedded

import "sync"

// readers keeps the files of objects that are replaced or deleted while they are read, so that a GET
// can return the whole object that it found. An object is identified by the ID of its first file. The
// zero value is ready to use.
type readers struct {
	mu      sync.Mutex
	count   map[string]int     // guarded by mu
	removed map[string]*record // to be removed when the last reader ends; guarded by mu
}

func (r *readers) begin(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count, r.removed = map[string]int{}, map[string]*record{}
	}
	r.count[id]++
}

// end ends a read. It returns the object whose files can be removed now, nil for none.
func (r *readers) end(id string) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count[id]--; r.count[id] > 0 {
		return nil
	}
	o := r.removed[id]
	delete(r.count, id)
	delete(r.removed, id)
	return o
}

// keep reports whether an object is being read. If so, its files are removed when the last reader
// ends.
func (r *readers) keep(o *record) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(o.Blobs) == 0 || r.count[o.Blobs[0].ID] == 0 {
		return false
	}
	r.removed[o.Blobs[0].ID] = o
	return true
}

// reading finds an object whose files stay until done is called.
func (b *backend) reading(bkt, name string) (o *record, done func(), err error) {
	for {
		o, err = b.find(bkt, name)
		if err != nil {
			return nil, nil, err
		}
		id := o.Blobs[0].ID // an object has at least one file
		b.readers.begin(id)
		done = func() {
			if gone := b.readers.end(id); gone != nil {
				_ = b.release(gone) // files that stay are removed at the next start
			}
		}
		now, err := b.object(bkt, name)
		if err == nil && now != nil && now.Blobs[0].ID == id {
			return o, done, nil
		}
		done() // it was replaced before begin, so its files may have been removed
		if err != nil {
			return nil, nil, err
		}
	}
}
