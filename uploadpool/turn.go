package uploadpool

import (
	"time"

	"github.com/akidb/akigw"
)

// turn is a key's place in a queue.
type turn struct {
	key        akigw.Key
	due        time.Time // when it may start, if it waits
	urgent     bool      // it is in lane.urgent
	queued     bool      // it is in lane.queue
	superseded bool      // another turn of the key is the valid one
}

// delays is a heap of turns by their time.
type delays []*turn

func (d delays) Len() int           { return len(d) }
func (d delays) Less(i, k int) bool { return d[i].due.Before(d[k].due) }
func (d delays) Swap(i, k int)      { d[i], d[k] = d[k], d[i] }
func (d *delays) Push(x any)        { *d = append(*d, x.(*turn)) }
func (d *delays) Pop() any {
	last := (*d)[len(*d)-1]
	(*d)[len(*d)-1] = nil
	*d = (*d)[:len(*d)-1]
	return last
}
