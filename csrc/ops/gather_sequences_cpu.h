// How a CPU copies sequences. Rows lie at random places of a storage far larger than any cache, so what counts is to have asked for them
// before they are needed.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/cpu.h"
#include "core/line_copy.h"
#include "core/short_copy.h"
#include "ops/gather_sequences.h"

namespace fastrl {

struct BlockCopy {
  static void run(const SequenceRows& rows, const std::vector<SequencePiece>& pieces, int32_t /*device*/) {
    const Plan plan(rows, pieces);
    Cpu::share(plan.num_tiles(), rows.count() * plan.row_bytes / kBytesPerThread, [&](int64_t first, int64_t last) {
      cpu::with_best_instructions([&]() FASTRL_INLINE { plan.copy(first, last); });
      if (plan.streams) cpu::finish_streaming();
    });
  }

 private:
  static constexpr int64_t kBytesPerThread = 1 << 20;
  // Some steps of some sequences: copied while the next tile is on its way. Enough rows to hide the latency of memory, few enough to stay
  // in cache; several steps because they often lie side by side in the storage, several sequences because they do in the targets.
  static constexpr int64_t kTileRows = 64;
  static constexpr int64_t kTileBytes = 128 << 10;
  static constexpr int64_t kWideBytes = 256;  // of rows that are copied line by line, each line asking for one of the next tile
  static constexpr int64_t kLine = cpu::kLine;

  struct Tile {
    int64_t first_step, steps, first_sample, samples;
    int64_t position[kTileRows], env[kTileRows];  // step by step

    FASTRL_HD int64_t size() const { return steps * samples; }
  };

  // Bytes of every row that are asked for a tile ahead. Fields side by side in memory are asked for at once.
  struct Fetch {
    const char* source;
    int64_t position_stride, env_stride, bytes;
  };

  struct Plan {
    const SequenceRows& rows;
    const std::vector<SequencePiece>& pieces;
    std::vector<Fetch> fetches;
    int64_t row_bytes = 0;
    int64_t steps, samples;  // of a tile
    bool streams;

    Plan(const SequenceRows& all_rows, const std::vector<SequencePiece>& all_pieces) : rows(all_rows), pieces(all_pieces) {
      std::vector<Fetch> all;
      all.reserve(pieces.size());
      fetches.reserve(pieces.size());
      bool any_wide = false;
      for (const SequencePiece& piece : pieces) {
        row_bytes += piece.run_bytes * piece.runs;
        if (is_wide(piece))
          any_wide = true;
        else
          all.push_back({piece.source, piece.position_stride, piece.env_stride, piece.run_bytes});
      }
      std::sort(all.begin(), all.end(), [](const Fetch& one, const Fetch& other) { return one.source < other.source; });
      for (const Fetch& fetch : all)
        if (fetches.empty() || !continues(fetch, &fetches.back())) fetches.push_back(fetch);
      // a long row is a stream of its own and best followed for a while; of short ones several sequences fill a line of the target
      const int64_t most = std::clamp<int64_t>(kTileBytes / row_bytes, 4, kTileRows);
      steps = std::min({rows.seq_len, any_wide ? int64_t{16} : int64_t{8}, most});
      samples = std::min(rows.batch, most / steps);
      streams = cpu::outgrows_cache(rows.count() * row_bytes);
    }

    static bool is_wide(const SequencePiece& piece) { return piece.runs == 1 && piece.run_bytes >= kWideBytes; }

    static bool continues(const Fetch& next, Fetch* last) {
      const int64_t gap = next.source - (last->source + last->bytes);
      if (gap < 0 || gap >= kLine || next.position_stride != last->position_stride || next.env_stride != last->env_stride) return false;
      last->bytes += gap + next.bytes;
      return true;
    }

    FASTRL_HD int64_t tiles_in_time() const { return (rows.seq_len + steps - 1) / steps; }
    FASTRL_HD int64_t num_tiles() const { return (rows.batch + samples - 1) / samples * tiles_in_time(); }

    FASTRL_HD void locate(int64_t number, Tile* tile) const {
      tile->first_sample = number / tiles_in_time() * samples;
      tile->first_step = number % tiles_in_time() * steps;
      tile->samples = std::min(samples, rows.batch - tile->first_sample);
      tile->steps = std::min(steps, rows.seq_len - tile->first_step);
      int64_t i = 0;
      for (int64_t k = 0; k < tile->steps; ++k) {
        for (int64_t b = 0; b < tile->samples; ++b, ++i) {
          tile->position[i] = rows.position(tile->first_step + k, tile->first_sample + b);
          tile->env[i] = rows.stream(tile->first_sample + b);
        }
      }
    }

    // tiles [first, last)
    FASTRL_HD void copy(int64_t first, int64_t last) const {
      Tile tiles[2];
      Tile *now = &tiles[0], *next = &tiles[1];
      locate(first, next);
      for (const Fetch& fetch : fetches) fetch_tile(*next, fetch);
      for (int64_t number = first; number < last; ++number) {
        std::swap(now, next);
        if (number + 1 < last)
          locate(number + 1, next);
        else
          next->steps = 0;
        for (const Fetch& fetch : fetches) fetch_tile(*next, fetch);
        for (const SequencePiece& piece : pieces) copy_tile(*now, *next, piece);
      }
    }

    FASTRL_HD static void fetch_tile(const Tile& tile, const Fetch& fetch) {
      for (int64_t i = 0; i < tile.size(); ++i) {
        const char* from = fetch.source + tile.position[i] * fetch.position_stride + tile.env[i] * fetch.env_stride;
        for (const char* line = from; line < from + fetch.bytes - 1; line += kLine) __builtin_prefetch(line);
        __builtin_prefetch(from + fetch.bytes - 1);
      }
    }

    FASTRL_HD void copy_tile(const Tile& tile, const Tile& next, const SequencePiece& piece) const {
      const int64_t bytes = piece.run_bytes;
      if (piece.runs > 1)
        each_row(tile, piece, [&](char* to, const char* from) FASTRL_INLINE {
          for (int64_t run = 0; run < piece.runs; ++run)
            std::memcpy(to + run * bytes, from + piece.run_offset(run), static_cast<size_t>(bytes));
        });
      else if (is_wide(piece))
        streams&& whole_words(piece) ? copy_wide<true>(tile, next, piece) : copy_wide<false>(tile, next, piece);
      else
        cpu::with_copy_of(bytes, [&](const auto& copy) FASTRL_INLINE { each_row(tile, piece, copy); });
    }

    template <class Copy>
    FASTRL_HD void each_row(const Tile& tile, const SequencePiece& piece, const Copy& copy) const {
      const SequencePiece local = piece;  // known to the compiler as unaliased
      int64_t i = 0;
      for (int64_t k = 0; k < tile.steps; ++k) {
        char* to = local.target_at((tile.first_step + k) * rows.batch + tile.first_sample);
        for (int64_t b = 0; b < tile.samples; ++b, ++i, to += local.target_stride) copy(to, local.source_at(tile.position[i], tile.env[i]));
      }
    }

    // Long rows, sequence by sequence; each line copied asks for one of the next tile.
    template <bool kStream>
    FASTRL_HD void copy_wide(const Tile& tile, const Tile& next, const SequencePiece& piece) const {
      const SequencePiece local = piece;
      for (int64_t b = 0; b < tile.samples; ++b) {
        for (int64_t k = 0; k < tile.steps; ++k) {
          const int64_t i = k * tile.samples + b;
          const char* from = local.source_at(tile.position[i], tile.env[i]);
          const char* later = i < next.size() ? local.source_at(next.position[i], next.env[i]) : from;
          cpu::copy_fetching<kStream>(
              local.target_at((tile.first_step + k) * rows.batch + tile.first_sample + b), from, local.run_bytes, later);
        }
      }
    }

    static bool whole_words(const SequencePiece& piece) { return cpu::whole_words(piece.target, piece.target_stride | piece.run_bytes); }
  };
};

}  // namespace fastrl
