package writeback

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }
