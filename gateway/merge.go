package gateway

import (
	"math"
	"strings"

	"github.com/akidb/akigw/writeback/overlay"
)

// The listing of a bucket with write-back is one sorted stream: the objects of the upstream,
// overlaid with pending writes. It is cut into pages here. The next page begins after the last key
// or common prefix of the previous one, not at a token of the upstream, which does not know pending
// keys.

// listMerged answers a listing of a bucket with write-back.
func (g *listings) listMerged(w *answer, c *call) error {
	q, err := parseList(c)
	if err != nil {
		return err
	}
	items, truncated := []listItem(nil), false
	for q.max > 0 {
		page, more, err := g.mergedPage(q, q.max-len(items))
		if err != nil {
			return err
		}
		items = append(items, page...)
		if truncated = more; !more || len(items) >= q.max {
			break
		}
		if len(page) > 0 {
			last := page[len(page)-1]
			q.after, q.afterPrefix = last.name, last.prefix
		}
	}
	sendDocument(w, q.document(items, truncated))
	return nil
}

// mergedPage returns up to max further items, and whether there may be more. The overlay is read
// first: an acknowledged write is either there, or already in the upstream when the upstream is
// asked.
func (g *listings) mergedPage(q *listRequest, max int) (items []listItem, more bool, err error) {
	pending, morePending := g.Writes.Overlay.Changes(q.call.key.Bucket, q.prefix, q.from(), maxOverlay)
	upstream, truncated, err := g.upstreamPage(q, max)
	if err != nil {
		return nil, false, err
	}
	m := newMerger(q, upstream, truncated, pending, morePending)
	for len(items) < max {
		item, pendingItem, ok := m.next()
		if !ok {
			break
		}
		if keep, err := g.keep(q, m, item, pendingItem); err != nil {
			return nil, false, err
		} else if keep {
			items = append(items, item)
		}
	}
	if more = m.more(); more && len(items) == 0 { // everything in it is deleted: the next page begins after it
		q.after, q.afterPrefix = m.last.name, m.last.prefix
	}
	return items, more, nil
}

// keep reports whether an item belongs to the listing: an upstream item does not if pending writes
// delete it, or everything below it.
func (g *listings) keep(q *listRequest, m *merger, item listItem, pending bool) (bool, error) {
	switch {
	case pending:
		return true, nil
	case item.prefix:
		return g.alive(q, item.name)
	}
	return !m.deleted[item.name], nil
}

// merger merges two sorted sources of one listing: a page of the upstream, and pending writes, which
// take precedence.
type merger struct {
	upstream, overlay []listItem
	deleted           map[string]bool // keys that pending writes delete
	incomplete        bool            // at least one source has more
	end               string          // names after it are unknown; "": all are known
	last              listItem        // the item at end
}

func newMerger(q *listRequest, upstream []listItem, truncated bool, pending []overlay.Change, morePending bool) *merger {
	m := &merger{upstream: upstream, deleted: map[string]bool{}, incomplete: truncated || morePending}
	if truncated && len(upstream) > 0 {
		m.endAt(upstream[len(upstream)-1])
	}
	if morePending {
		m.endAt(listItem{name: pending[len(pending)-1].Name})
	}
	for _, p := range pending {
		if !m.known(p.Name) {
			break
		}
		m.add(p, q.common(p.Name))
	}
	return m
}

// endAt records that one source ends at an item, and has more after it.
func (m *merger) endAt(last listItem) {
	end := last.name
	if last.prefix {
		end = beyond(end)
	}
	if m.end == "" || end < m.end {
		m.end, m.last = end, last
	}
}

// known reports whether both sources cover a name.
func (m *merger) known(name string) bool { return m.end == "" || name <= m.end }

// add adds a pending write; common is its common prefix, "" for none.
func (m *merger) add(p overlay.Change, common string) {
	switch {
	case p.Deleted:
		m.deleted[p.Name] = true
	case common == "":
		m.overlay = append(m.overlay, listItem{name: p.Name, raw: pendingContents(p)})
	case len(m.overlay) == 0 || m.overlay[len(m.overlay)-1].name != common:
		m.overlay = append(m.overlay, listItem{name: common, prefix: true})
	}
}

// next removes and returns the smallest item, and reports whether it is pending. ok is false when
// no more items are known.
func (m *merger) next() (item listItem, pending, ok bool) {
	if len(m.overlay) == 0 || len(m.upstream) > 0 && m.upstream[0].name < m.overlay[0].name {
		if len(m.upstream) == 0 || !m.known(m.upstream[0].name) {
			return listItem{}, false, false
		}
		item, m.upstream = m.upstream[0], m.upstream[1:]
		return item, false, true
	}
	if len(m.upstream) > 0 && m.upstream[0].name == m.overlay[0].name {
		m.upstream = m.upstream[1:]
	}
	item, m.overlay = m.overlay[0], m.overlay[1:]
	return item, true, true
}

// more reports whether there may be items after those that next has returned.
func (m *merger) more() bool { return m.incomplete || len(m.overlay)+len(m.upstream) > 0 }

// maxOverlay is how many pending keys are read for a page.
const maxOverlay = 4000

// alive reports whether pending deletions leave an object below a common prefix of the upstream.
func (g *listings) alive(q *listRequest, prefix string) (bool, error) {
	deleted := map[string]bool{}
	pending, _ := g.Writes.Overlay.Changes(q.call.key.Bucket, prefix, "", math.MaxInt)
	for _, p := range pending {
		if p.Deleted {
			deleted[p.Name] = true
		}
	}
	if len(deleted) == 0 {
		return true, nil
	}
	inner := &listRequest{call: q.call, v2: q.v2, prefix: prefix}
	if strings.HasPrefix(q.after, prefix) { // keys before it do not count
		inner.after = q.after
	}
	for {
		page, truncated, err := g.upstreamPage(inner, maxListKeys)
		if err != nil {
			return false, err
		}
		for _, item := range page {
			if !deleted[item.name] {
				return true, nil
			}
		}
		if !truncated || len(page) == 0 {
			return false, nil
		}
		inner.after = page[len(page)-1].name
	}
}
