package queue

import (
	"slices"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// values lists a queue from the oldest to the newest.
func values(q *Queue[int]) (all []int) {
	for n := q.Oldest(); n != nil; n = n.Newer() {
		all = append(all, n.Value)
	}
	return all
}

// TestQueues: nodes that move between two queues at random are where slices say, in that order, and
// the sizes are theirs.
func TestQueues(t *testing.T) {
	random := testkit.Random(t)
	var queues [2]Queue[int]
	var want [2][]int
	nodes := make([]Node[int], 12)
	for i := range nodes {
		nodes[i].Value, nodes[i].Bytes = i, int64(i*i)
	}
	for range 5000 {
		n, to := &nodes[random.IntN(len(nodes))], random.IntN(3)
		for q := range want {
			want[q] = slices.DeleteFunc(want[q], func(value int) bool { return value == n.Value })
		}
		if to == 2 {
			if n.Leave(); n.In() != nil {
				t.Fatalf("%d left, and is in a queue", n.Value)
			}
		} else {
			want[to] = append(want[to], n.Value)
			if queues[to].Push(n); n.In() != &queues[to] {
				t.Fatalf("%d is not in the queue that it was added to", n.Value)
			}
		}
		for q := range queues {
			bytes := int64(0)
			for _, value := range want[q] {
				bytes += int64(value * value)
			}
			if got := values(&queues[q]); !slices.Equal(got, want[q]) || queues[q].Len() != len(got) || queues[q].Bytes() != bytes {
				t.Fatalf("queue %d: %d, %d nodes of %d bytes; want %d of %d bytes", q, got, queues[q].Len(), queues[q].Bytes(), want[q], bytes)
			}
		}
	}
}
