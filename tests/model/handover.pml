/* SPDX-License-Identifier: Apache-2.0
 *
 * The hand-over of tables from control to the dataplane's workers (docs/contract.md), with either process dying
 * and restarting at any step. One block stands for all; its two halves, written and copied one after the other, show
 * tearing. A checksum is modelled as perfect: a directory holds the sum of its own fields, and the tag that both
 * halves of its block must carry.
 *
 * Checked in every reachable state:
 *   - no worker uses a table that is torn, freed or not validated;
 *   - what `current` names is whole: a restarted process always finds a good table;
 *   - the dataplane refuses no valid generation.
 *
 * tests/model/run checks the protocol, the protocol without one or the other of its two defences (holding what is
 * announced; checksum and recheck), which must pass, too, and one broken variant per BUG_ macro, each of which must
 * fail: else the model proves nothing.
 */

#ifndef GENERATIONS
#define GENERATIONS 4
#endif
#ifndef DATAPLANE_DEATHS
#define DATAPLANE_DEATHS 1
#endif
#ifndef CONTROL_DEATHS
#define CONTROL_DEATHS 1
#endif
#define SLOTS 4   /* current, adopted and pending may be held; one more to write */
#define BLOCKS 4  /* likewise */
#define COPIES 3  /* in the dataplane's own memory: the one in use, the old one until acknowledged, the new one */
#ifndef WORKERS
#define WORKERS 2
#endif
#define NONE 255

#define SUM(gen, blk, tag) ((gen) * 64 + (blk) * 16 + (tag))

/* The table file: written by control alone. */
byte half0[BLOCKS], half1[BLOCKS];  /* a block's content: the tag of its generation */
byte dir_gen[SLOTS], dir_blk[SLOTS], dir_tag[SLOTS];
short dir_sum[SLOTS];
byte cur_gen, cur_slot;             /* one 64-bit word: always written and read together */
byte bad;                           /* the tag of content that breaks a rule; 0: none does. The world's choice */

/* The feedback file: written by the dataplane's main thread alone. */
bool dp_lock;
byte fb_pending, fb_adopted;

/* The dataplane's own memory: gone when it dies. */
byte copy0[COPIES], copy1[COPIES], copy_tag[COPIES];
bool in_use[COPIES], validated[COPIES];
byte table;                         /* the one pointer that workers load */
byte acked[WORKERS];
bool workers_run;

/* How often each process has died; who runs with an old number is dead. */
byte dp_life, control_life;

#define CURRENT_IS_WHOLE                                                                                     \
  (cur_gen == 0 ||                                                                                           \
   (dir_gen[cur_slot] == cur_gen &&                                                                          \
    dir_sum[cur_slot] == SUM(dir_gen[cur_slot], dir_blk[cur_slot], dir_tag[cur_slot]) &&                     \
    half0[dir_blk[cur_slot]] == dir_tag[cur_slot] && half1[dir_blk[cur_slot]] == dir_tag[cur_slot]))

/* ---- control ---- */

byte held_slots, held_blocks;  /* bit sets; control's own, global only to keep the code short */

inline hold(gen) {
  i = 0;
  do
  :: i < SLOTS ->
     if
     :: gen != 0 && dir_gen[i] == gen && dir_sum[i] == SUM(dir_gen[i], dir_blk[i], dir_tag[i]) ->
        held_slots = held_slots | (1 << i);
        held_blocks = held_blocks | (1 << dir_blk[i])
     :: else
     fi;
     i++
  :: else -> break
  od
}

/* The first slot and block that nobody needs. */
inline choose_free() {
  s = 0;
  do
  :: s < SLOTS && (held_slots & (1 << s)) -> s++
  :: else -> break
  od;
  b = 0;
  do
  :: b < BLOCKS && (held_blocks & (1 << b)) -> b++
  :: else -> break
  od;
  assert(s < SLOTS && b < BLOCKS)
}

proctype Control() {
  byte life, gen, s, b, i, tag;
  bool alive, keep;

restart:
  /* Recovery: everything that control knows comes from the file. The newest generation in any slot, published or
   * not, is never used again. */
  atomic {
    life = control_life;
    gen = cur_gen;
    i = 0;
    do
    :: i < SLOTS ->
       if
       :: dir_gen[i] > gen && dir_sum[i] == SUM(dir_gen[i], dir_blk[i], dir_tag[i]) -> gen = dir_gen[i]
       :: else
       fi;
       i++
    :: else -> break
    od;
    i = 0; s = 0; b = 0; tag = 0; alive = false; keep = false
  }
  {
    do
    :: gen < GENERATIONS ->
       gen++;
       alive = dp_lock;
       d_step {  /* one consistent copy of the feedback */
         held_slots = 0;
         held_blocks = 0;
#ifndef BUG_FORGET_CURRENT
         hold(cur_gen);
#endif
#if !defined(WITHOUT_HOLDING) && !defined(BUG_REUSE_UNCHECKED)
         if
         :: alive -> hold(fb_pending); hold(fb_adopted)
         :: else
         fi;
#endif
         choose_free();
         held_slots = 0;
         held_blocks = 0;
         i = 0
       }
       /* The block has changed, or it stays where and what it is. */
       if
       :: tag = gen; keep = false
       :: cur_gen != 0 -> tag = dir_tag[cur_slot]; b = dir_blk[cur_slot]; keep = true
       fi;
       if
       :: keep
       :: else ->
          if
          :: true
          :: bad == 0 -> bad = gen
          fi;
          half0[b] = tag;
          half1[b] = tag
       fi;
#ifdef BUG_CURRENT_FIRST
       d_step { cur_gen = gen; cur_slot = s };
#endif
       dir_gen[s] = gen;
       d_step { dir_blk[s] = b; dir_tag[s] = tag };
       dir_sum[s] = SUM(gen, b, tag);
       d_step { cur_gen = gen; cur_slot = s; s = 0; b = 0; tag = 0; keep = false; alive = false }
    :: else -> break
    od
  } unless { life != control_life };
end_published:
  life != control_life;
  goto restart
}

/* ---- dataplane ---- */

inline free_copy(c) {
  in_use[c] = false;
  validated[c] = false;
  copy0[c] = 0;
  copy1[c] = 0;
  copy_tag[c] = 0
}

proctype Main() {
  byte life, seen, g, s, dg, db, dt, b0, b1, n, old;
  short sum;
  bool ok;

restart:
  atomic {
    life = dp_life;
    seen = 0;
    g = 0; s = 0; dg = 0; db = 0; dt = 0; b0 = 0; b1 = 0; sum = 0; n = 0; ok = false; old = NONE
  }
  {
    /* A new feedback file, then the lock, then the workers. */
    d_step { fb_pending = 0; fb_adopted = 0; dp_lock = true; workers_run = true };
end_idle:
    do
    :: d_step { cur_gen != seen -> g = cur_gen; s = cur_slot } ->
again:
       fb_pending = g;
#if !defined(BUG_REUSE_UNCHECKED) && !defined(BUG_UNCHECKED_COPY)
       if
       :: cur_gen != g -> d_step { g = cur_gen; s = cur_slot }; goto again
       :: else
       fi;
#endif
       dg = dir_gen[s];
       d_step { db = dir_blk[s]; dt = dir_tag[s] };
       sum = dir_sum[s];
       b0 = half0[db];
       b1 = half1[db];
#if !defined(BUG_REUSE_UNCHECKED) && !defined(BUG_UNCHECKED_COPY)
       ok = true;
#ifndef WITHOUT_CHECKSUM
       ok = (dg == g && sum == SUM(dg, db, dt) && b0 == dt && b1 == dt);
#endif
       if
       :: cur_gen != g -> d_step { g = cur_gen; s = cur_slot }; goto again
       :: else
       fi;
       assert(ok);  /* still current and yet broken: a valid generation would be refused */
#endif
       d_step {
         seen = g;
         fb_pending = 0;
         n = 0;
         do
         :: n < COPIES && in_use[n] -> n++
         :: else -> break
         od;
         assert(n < COPIES);
         in_use[n] = true;
         copy0[n] = b0;
         copy1[n] = b1;
         copy_tag[n] = dt;
         g = 0; s = 0; dg = 0; db = 0; dt = 0; b0 = 0; b1 = 0; sum = 0; ok = false
       };
#ifndef BUG_SWAP_FIRST
       if
       :: bad != 0 && bad == copy0[n] -> d_step { free_copy(n); n = NONE }  /* refused; the last good one stays */
       :: else -> validated[n] = true
       fi;
#endif
       if
       :: n == NONE -> n = 0
       :: else ->
          d_step { old = table; table = n };
#ifdef BUG_SWAP_FIRST
          validated[n] = (bad == 0 || bad != copy0[n]);
#endif
#ifndef BUG_FREE_BEFORE_ACK
          (acked[0] == n && acked[WORKERS - 1] == n);
#endif
          d_step {
            if
            :: old != NONE -> free_copy(old)
            :: else
            fi;
            old = NONE;
            n = 0;
            fb_adopted = seen
          }
       fi
    od
  } unless { life != dp_life };
  goto restart
}

proctype Worker(byte id) {
  byte life, mine;

end_restart:
  atomic { workers_run -> life = dp_life; mine = NONE };
  {
end_without_table:
    do
    :: d_step { table != NONE -> mine = table };  /* once per burst */
       acked[id] = mine;                          /* whatever came before is no longer used here */
       d_step {
         assert(in_use[mine]);                   /* freed */
         assert(validated[mine]);                /* not validated */
         assert(copy0[mine] == copy1[mine]);     /* torn */
         assert(copy0[mine] == copy_tag[mine]);  /* not what its directory says */
         assert(bad == 0 || copy0[mine] != bad);
         mine = NONE
       }
    od
  } unless { life != dp_life };
  goto end_restart
}

/* ---- the world ---- */

/* kill -9, at any moment. The kernel drops the lock and the memory with the process. */
proctype Killer() {
  byte c;
end_tired:
  do
  :: dp_life < DATAPLANE_DEATHS && workers_run ->
     d_step {
       dp_life++;
       dp_lock = false;
       workers_run = false;
       table = NONE;
       acked[0] = NONE;
       acked[WORKERS - 1] = NONE;
       c = 0;
       do
       :: c < COPIES -> free_copy(c); c++
       :: else -> break
       od;
       c = 0
     }
  :: control_life < CONTROL_DEATHS -> control_life++
  od
}

proctype Monitor() {
end_well:
  atomic { !(CURRENT_IS_WHOLE) -> assert(CURRENT_IS_WHOLE) }
}

init {
  atomic {
    table = NONE;
    acked[0] = NONE;
    acked[WORKERS - 1] = NONE;
    run Control();
    run Main();
    run Worker(0);
#if WORKERS > 1
    run Worker(1);
#endif
    run Killer();
    run Monitor()
  }
}
