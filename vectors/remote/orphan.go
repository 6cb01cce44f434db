package remote

import (
	"context"
	"fmt"
)

// RemovePart removes a part of a collection that no manifest names and none will. It is no error if the
// object does not exist.
func (r *Remote) RemovePart(ctx context.Context, c Collection, name string) error {
	if err := r.CheckOwner(ctx); err != nil {
		return err
	}
	if err := r.objects.remove(ctx, c.dir()+name); err != nil {
		return fmt.Errorf("removal of part %s of %s: %w", name, c, err)
	}
	return nil
}
