package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// Learn determines which object a key holds, from the catalog or the upstream, without counting an
// access. Errors: akigw.ErrNoSuchKey, ErrTierOff for an object that a rule excludes from the cache,
// and those of Get.
func (m *mover) Learn(ctx context.Context, key akigw.Key) (*akigw.Object, error) {
	e, err := m.learn(ctx, key)
	if err != nil {
		return nil, err
	}
	return &e.Object, nil
}

// Confirm asks the upstream for the object of a key, to prove that the upstream has it, and
// responds. In mode Exclusive, a listing of the last seconds proves that as well. Errors are those
// of Learn.
func (m *mover) Confirm(ctx context.Context, key akigw.Key) error {
	e, _ := m.lookup(key)
	if e == nil {
		_, err := m.learn(ctx, key)
		return err
	}
	if m.source.validator.listed(ctx, e) {
		m.counters.savedConfirmations.Inc()
		return nil
	}
	_, err := m.source.validator.validate(ctx, e)
	return err
}

// learn determines which object a key holds, without counting an access.
func (m *mover) learn(ctx context.Context, key akigw.Key) (*entry, error) {
	settings := m.settings(key)
	if !settings.Cached() {
		return nil, fmt.Errorf("%w: a rule excludes it from the cache", ErrTierOff)
	}
	e, _, err := m.source.validator.current(ctx, key, settings, akigw.Conditions{})
	if e == nil && err == nil {
		e, err = m.source.validator.ask(ctx, key, nil)
	}
	if err == nil && !settings.CachedSize(e.Size) {
		err = fmt.Errorf("%w: a rule excludes objects of its size from the cache", ErrTierOff)
	}
	return e, absentOr(key, err)
}

// absentOr returns ErrNoSuchKey if err says that the upstream has no such object, else err.
func absentOr(key akigw.Key, err error) error {
	var refused *cold.ResponseError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return fmt.Errorf("%w: %s", akigw.ErrNoSuchKey, key)
	}
	return err
}
