package driver

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func TestIntents(t *testing.T) {
	notes := intents{dir: t.TempDir()}
	_, found, err := notes.get("redis-1")
	must.NoError(t, err)
	must.False(t, found)

	first := intent{Container: "redis-1", TaskID: "1/redis/a", AllocID: "1", TaskName: "redis", HostUID: 2001, Made: time.Now().Round(0)}
	must.NoError(t, notes.put(first))
	second := first
	second.Container, second.TaskName = "../web/-1", "../web/"
	must.NoError(t, notes.put(second))
	again := first
	again.TaskID = "1/redis/b"
	must.NoError(t, notes.put(again))

	got, found, err := notes.get("redis-1")
	must.NoError(t, err)
	must.True(t, found)
	must.Eq(t, again, got)
	all, err := notes.all()
	must.NoError(t, err)
	must.SliceContainsAll(t, []intent{again, second}, all)

	must.NoError(t, os.WriteFile(notes.path("damaged"), []byte("{"), 0o600))
	all, err = notes.all()
	must.ErrorContains(t, err, notes.path("damaged"))
	must.Len(t, 2, all)

	must.NoError(t, notes.remove("redis-1"))
	must.NoError(t, notes.remove("redis-1"))
	_, found, err = notes.get("redis-1")
	must.NoError(t, err)
	must.False(t, found)
}

func TestClaims(t *testing.T) {
	var names claims
	must.True(t, names.try("a"))
	must.False(t, names.try("a"))
	must.True(t, names.try("b"))

	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(over)
	must.ErrorIs(t, names.wait(ctx, "a"), over)

	claimed := make(chan error)
	go func() { claimed <- names.wait(t.Context(), "a") }()
	names.release("a")
	must.NoError(t, <-claimed)
	must.False(t, names.try("a"))
	names.release("a")
	names.release("a")
	must.True(t, names.try("a"))
}
