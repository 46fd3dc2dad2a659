package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func testStep(t *testing.T) *step {
	t.Helper()
	p := newProgress(io.Discard)
	t.Cleanup(p.close)
	return p.step("test")
}

// write is a build that makes one file.
func write(content string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o600)
	}
}

func refuse(context.Context, string) error { return errors.New("built again") }

func TestCacheBuildsOnce(t *testing.T) {
	c := cache{t.TempDir()}
	made, err := c.get(t.Context(), testStep(t), "base", "1", write("one"))
	must.NoError(t, err)
	defer made.release()
	content, err := os.ReadFile(made.path("file"))
	must.NoError(t, err)
	must.Eq(t, "one", string(content))

	again, err := c.get(t.Context(), testStep(t), "base", "1", refuse)
	must.NoError(t, err)
	again.release()
}

func TestCacheFailedBuildLeavesNothing(t *testing.T) {
	c := cache{t.TempDir()}
	broken := errors.New("broken")
	_, err := c.get(t.Context(), testStep(t), "base", "1", func(ctx context.Context, dir string) error {
		return errors.Join(write("half")(ctx, dir), broken)
	})
	must.ErrorIs(t, err, broken)
	left, err := filepath.Glob(filepath.Join(c.dir, "base-1*"))
	must.NoError(t, err)
	must.Eq(t, []string{filepath.Join(c.dir, "base-1.lock")}, left)

	// As a killed build leaves it.
	must.NoError(t, os.Mkdir(filepath.Join(c.dir, "base-1.new"), 0o700))
	made, err := c.get(t.Context(), testStep(t), "base", "1", write("whole"))
	must.NoError(t, err)
	made.release()
}

func TestCacheTwoBuildersOneBuild(t *testing.T) {
	c := cache{t.TempDir()}
	var builds int
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			made, err := c.get(t.Context(), testStep(t), "base", "1", func(ctx context.Context, dir string) error {
				builds++
				return write("one")(ctx, dir)
			})
			must.NoError(t, err)
			made.release()
		})
	}
	both.Wait()
	must.Eq(t, 1, builds)
}

func TestCacheWaitEnds(t *testing.T) {
	c := cache{t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.get(t.Context(), testStep(t), "base", "1", func(context.Context, string) error {
		// Another one wants it meanwhile, and gives up.
		cancel()
		_, err := c.get(ctx, testStep(t), "base", "1", refuse)
		must.ErrorIs(t, err, context.Canceled)
		return err
	})
	must.ErrorIs(t, err, context.Canceled)
}

func TestCacheRemoval(t *testing.T) {
	c := cache{t.TempDir()}
	get := func(key string) *part {
		made, err := c.get(t.Context(), testStep(t), "base", key, write(key))
		must.NoError(t, err)
		return made
	}
	get("old").release()
	used := get("used")
	long := time.Now().Add(-2 * unusedFor)
	for _, key := range []string{"old", "used"} {
		must.NoError(t, os.Chtimes(filepath.Join(c.dir, "base-"+key), long, long))
	}
	get("new").release()
	must.FileNotExists(t, filepath.Join(c.dir, "base-old", "file"))
	must.FileExists(t, used.path("file"), must.Sprint("in use"))

	must.ErrorContains(t, c.clean(), "lab down")
	must.FileExists(t, used.path("file"), must.Sprint("in use"))
	used.release()
	must.NoError(t, c.clean())
	must.DirNotExists(t, c.dir)
}
