package tiers

import (
	"bytes"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// maxAbsence is how long an absence is trusted, whatever the TTL.
const maxAbsence = time.Second

// rememberAbsence stores a response that says only that the key holds nothing. The caller has
// entered the key's fence.
func (c *catalog) rememberAbsence(key akigw.Key, generation uint64, asked time.Time, answer *cold.ResponseError, head bool) {
	clean := answer.Status == http.StatusNotFound && (head || bytes.Contains(answer.Body, []byte("<Code>NoSuchKey</Code>")))
	if !clean || key.Version != "" || c.settings(key).Freshness != rules.TTL {
		return
	}
	e := c.newEntry(akigw.Object{Key: key}, generation, asked)
	e.absent = &absence{answer, head}
	c.remember(e)
}

// absent returns the remembered response for a key that holds nothing, nil if there is none or it
// may not be used.
func (c *catalog) absent(key akigw.Key, settings *rules.Settings, conditions akigw.Conditions, head bool) error {
	if settings.Freshness != rules.TTL || conditions.NoCache || conditions.MaxAge > 0 || c.fence.writing(key) {
		return nil
	}
	v, ok := c.hot.Get(hotKey{key: key})
	if !ok || v.entry.absent == nil || v.entry.absent.head && !head || !c.fence.alive(key, v.entry.Generation) || !within(v.entry, min(maxAbsence, settings.TTL)) {
		return nil
	}
	return v.entry.absent.answer
}
