// Consecutive ring positions of sampled streams, for every field of a replay storage at once: a copy, as wide as memory allows.
#pragma once

#include <string>
#include <vector>

#include "core/indices.h"
#include "core/tensor.h"

namespace fastrl {

// A part of every stored row that is copied alike: `runs` stretches of `run_bytes`, one behind the other in the target, and in the source
// where up to three nested strides put them. All strides are bytes.
struct SequencePiece {
  static constexpr int kLoops = 3;

  const char* source;  // ring position 0 of stream 0
  char* target;        // step 0 of sample 0
  int64_t position_stride, env_stride, target_stride;
  int64_t run_bytes, runs;
  int64_t count[kLoops], stride[kLoops];  // innermost first; unused ones count 1

  FASTRL_HD const char* source_at(int64_t position, int64_t env) const { return source + position * position_stride + env * env_stride; }
  FASTRL_HD char* target_at(int64_t row) const { return target + row * target_stride; }
  FASTRL_HD int64_t run_offset(int64_t run) const {
    int64_t offset = 0;
    for (int loop = 0; loop < kLoops; ++loop) {
      offset += run % count[loop] * stride[loop];
      run /= count[loop];
    }
    return offset;
  }
};

// Which rows are copied: row k B + b of the targets is ring position (start[b] + k) mod capacity of stream env[b].
struct SequenceRows {
  const int64_t *start, *env;
  int64_t start_stride, env_stride;
  int64_t capacity, batch, seq_len;

  FASTRL_HD int64_t count() const { return seq_len * batch; }
  FASTRL_HD int64_t stream(int64_t b) const { return env[b * env_stride]; }
  FASTRL_HD int64_t position(int64_t k, int64_t b) const {
    const int64_t unwrapped = start[b * start_stride] + k;
    return unwrapped < capacity ? unwrapped : unwrapped - capacity;
  }
};

// The pieces that a field [C, N, ...] consists of: one if the values of a row lie together or in a few strides, more for the rest.
inline void append_pieces(const Tensor& field, const Tensor& target, std::vector<SequencePiece>* pieces) {
  const auto sizes = field.sizes(), strides = field.strides();
  const int64_t item = static_cast<int64_t>(field.element_size());
  SequencePiece piece{static_cast<const char*>(field.data_ptr()),
                      static_cast<char*>(target.data_ptr()),
                      strides[0] * item,
                      strides[1] * item,
                      item,
                      item,
                      1,
                      {1, 1, 1},
                      {0, 0, 0}};
  int64_t outer_count = 1;
  std::vector<int64_t> outer;  // size and stride of loops beyond the three, innermost first
  int loops = 0;
  for (size_t d = sizes.size(); d-- > 2;) {
    const int64_t size = sizes[d], stride = strides[d] * item;
    piece.target_stride *= size;
    if (size == 1) continue;
    if (loops == 0 && stride == piece.run_bytes) {
      piece.run_bytes *= size;
    } else if (outer.empty() && loops > 0 && stride == piece.count[loops - 1] * piece.stride[loops - 1]) {
      piece.count[loops - 1] *= size;
    } else if (loops < SequencePiece::kLoops) {
      piece.count[loops] = size;
      piece.stride[loops++] = stride;
    } else {
      outer.insert(outer.end(), {size, stride});
      outer_count *= size;
    }
  }
  if (piece.target_stride == 0) return;
  for (int loop = 0; loop < loops; ++loop) piece.runs *= piece.count[loop];
  for (int64_t i = 0; i < outer_count; ++i) {
    SequencePiece part = piece;
    int64_t rest = i;
    for (size_t loop = 0; loop < outer.size(); loop += 2) {
      part.source += rest % outer[loop] * outer[loop + 1];
      rest /= outer[loop];
    }
    part.target += i * piece.runs * piece.run_bytes;
    pieces->push_back(part);
  }
}

// How a GPU copies: neighbouring threads take neighbouring words of a row, or of the rows of a narrow field. One launch does up to
// kPieces pieces, whose table travels with the launch.
struct SequenceLanes {
  static constexpr int kPieces = 16;
  static constexpr int kMaxLanes = 32;

  SequenceRows rows;
  int num_pieces;
  SequencePiece piece[kPieces];
  int64_t words_per_run[kPieces];
  int8_t word_log2[kPieces], lanes_log2[kPieces];  // bytes of a word; threads that share a row
  int64_t first_item[kPieces + 1];                 // threads are numbered through all pieces

  struct alignas(16) Sixteen {
    uint64_t half[2];
  };

  // `some` of `pieces` from `first` on
  SequenceLanes(const SequenceRows& all_rows, const std::vector<SequencePiece>& pieces, size_t first, int some)
      : rows(all_rows), num_pieces(some) {
    first_item[0] = 0;
    for (int p = 0; p < some; ++p) {
      const SequencePiece& part = piece[p] = pieces[first + static_cast<size_t>(p)];
      uint64_t offsets = reinterpret_cast<uintptr_t>(part.source) | reinterpret_cast<uintptr_t>(part.target) |
                         static_cast<uint64_t>(part.position_stride | part.env_stride | part.target_stride | part.run_bytes);
      for (int loop = 0; loop < SequencePiece::kLoops; ++loop) offsets |= static_cast<uint64_t>(part.stride[loop]);
      word_log2[p] = 0;
      while (word_log2[p] < 4 && (offsets >> word_log2[p] & 1) == 0) ++word_log2[p];
      words_per_run[p] = part.run_bytes >> word_log2[p];
      lanes_log2[p] = 0;
      while ((1 << lanes_log2[p]) < kMaxLanes && (int64_t{1} << lanes_log2[p]) < words_per_run[p] * part.runs) ++lanes_log2[p];
      first_item[p + 1] = first_item[p] + (rows.count() << lanes_log2[p]);
    }
  }

  int64_t items() const { return first_item[num_pieces]; }

  FASTRL_HD void operator()(int64_t item) const {
    int p = 0;
    while (item >= first_item[p + 1]) ++p;
    item -= first_item[p];
    const int64_t row = item >> lanes_log2[p], lane = item & ((int64_t{1} << lanes_log2[p]) - 1);
    // 32-bit division where it does: the other takes a GPU several times as long
    const bool narrow = rows.count() <= 0xffffffff;
    const int64_t k = narrow ? static_cast<uint32_t>(row) / static_cast<uint32_t>(rows.batch) : row / rows.batch;
    const int64_t b = row - k * rows.batch;
    const char* from = piece[p].source_at(rows.position(k, b), rows.stream(b));
    char* to = piece[p].target_at(row);
    switch (word_log2[p]) {
      case 0:
        return copy_words<uint8_t>(p, from, to, lane);
      case 1:
        return copy_words<uint16_t>(p, from, to, lane);
      case 2:
        return copy_words<uint32_t>(p, from, to, lane);
      case 3:
        return copy_words<uint64_t>(p, from, to, lane);
      default:
        return copy_words<Sixteen>(p, from, to, lane);
    }
  }

 private:
  template <class Word>
  FASTRL_HD void copy_words(int p, const char* from, char* to, int64_t lane) const {
    const int64_t words = words_per_run[p] * piece[p].runs, lanes = int64_t{1} << lanes_log2[p];
    for (int64_t w = lane; w < words; w += lanes) {
      int64_t offset = w * static_cast<int64_t>(sizeof(Word));
      if (piece[p].runs > 1) {
        const int64_t run = w / words_per_run[p];
        offset = piece[p].run_offset(run) + (w - run * words_per_run[p]) * static_cast<int64_t>(sizeof(Word));
      }
      reinterpret_cast<Word*>(to)[w] = *reinterpret_cast<const Word*>(from + offset);
    }
  }
};

// Copies with a backend that does element by element.
template <class Backend>
struct LaneCopy {
  static void run(const SequenceRows& rows, const std::vector<SequencePiece>& pieces, int32_t device) {
    for (size_t first = 0; first < pieces.size(); first += SequenceLanes::kPieces) {
      const size_t some = pieces.size() - first;
      const SequenceLanes lanes(rows, pieces, first, some < SequenceLanes::kPieces ? static_cast<int>(some) : SequenceLanes::kPieces);
      Backend::for_each(lanes, lanes.items(), device);
    }
  }
};

// Indices are looked at before anything is written.
struct CheckedSequences {
  Tensor start, env;  // what `rows` points into
  SequenceRows rows;
};

inline CheckedSequences check_sequences(const std::vector<Tensor>& fields, const Tensor& start, const Tensor& env, int64_t seq_len) {
  const char* op = "gather_sequences";
  FASTRL_CHECK(!fields.empty(), op, ": fields must hold at least one tensor");
  const Tensor& first = fields[0];
  for (const Tensor& field : fields) {
    FASTRL_CHECK(field.dim() >= 2, op, ": fields must have shape [C, N, ...]");
    FASTRL_CHECK(field.size(0) == first.size(0) && field.size(1) == first.size(1), op, ": fields must agree in C and N");
    FASTRL_CHECK(field.device() == first.device(), op, ": fields must be on one device");
  }
  const int64_t capacity = first.size(0);
  FASTRL_CHECK(start.dim() == 1, op, ": start must have shape [B]");
  const int64_t batch = start.size(0);
  check_vector(op, "env", env, batch);
  const Tensor own_start = checked_indices(op, "start", start, capacity, first);
  const Tensor own_env = checked_indices(op, "env", env, first.size(1), first);
  FASTRL_CHECK(seq_len >= 1 && seq_len <= capacity, op, ": seq_len must be in [1, ", capacity, "]");
  // what is asked for fits into memory, or asking for memory fails: but its size must be a number first
  FASTRL_CHECK(batch == 0 || seq_len <= INT64_MAX / batch, op, ": seq_len times B is too large");
  const SequenceRows rows{static_cast<const int64_t*>(own_start.data_ptr()),
                          static_cast<const int64_t*>(own_env.data_ptr()),
                          own_start.stride(0),
                          own_env.stride(0),
                          capacity,
                          batch,
                          seq_len};
  return {own_start, own_env, rows};
}

inline void check_targets(const std::vector<Tensor>& fields, const SequenceRows& rows, const std::vector<Tensor>& targets) {
  const char* op = "gather_sequences";
  FASTRL_CHECK(targets.size() == fields.size(), op, ": out must hold as many tensors as fields");
  std::vector<Reach> taken;  // by all that is read, and all that is written before
  taken.reserve(2 * fields.size());
  for (const Tensor& field : fields) taken.push_back(reach_of(field));
  for (size_t i = 0; i < targets.size(); ++i) {
    const Tensor& target = targets[i];
    const auto sizes = target.sizes(), wanted = fields[i].sizes();
    bool fits = sizes.size() == wanted.size() && sizes[0] == rows.seq_len && sizes[1] == rows.batch;
    for (size_t d = 2; fits && d < sizes.size(); ++d) fits = sizes[d] == wanted[d];
    FASTRL_CHECK(fits && target.is_contiguous(), op, ": out must be contiguous, of shape [seq_len, B, ...]");
    check_like(op, "out", target, fields[i].scalar_type(), fields[0]);
    const Reach reach = reach_of(target);
    for (const Reach& other : taken) FASTRL_CHECK(!reach.meets(other), op, ": out must not share memory with fields or among itself");
    taken.push_back(reach);
  }
}

template <class Copy>
void copy_sequences(const std::vector<Tensor>& fields, const SequenceRows& rows, const std::vector<Tensor>& targets) {
  std::vector<SequencePiece> pieces;
  pieces.reserve(fields.size());
  for (size_t i = 0; i < fields.size(); ++i) append_pieces(fields[i], targets[i], &pieces);
  if (rows.count() > 0 && !pieces.empty()) Copy::run(rows, pieces, fields[0].get_device_index());
}

template <class Copy>
std::vector<Tensor> gather_sequences(const std::vector<Tensor>& fields, const Tensor& start, const Tensor& env, int64_t seq_len) {
  const CheckedSequences checked = check_sequences(fields, start, env, seq_len);
  const SequenceRows& rows = checked.rows;
  std::vector<Tensor> targets;
  targets.reserve(fields.size());
  for (const Tensor& field : fields) {
    std::vector<int64_t> sizes(field.sizes().begin(), field.sizes().end());
    sizes[0] = seq_len;
    sizes[1] = rows.batch;
    targets.push_back(new_tensor(field, sizes));
  }
  copy_sequences<Copy>(fields, rows, targets);
  return targets;
}

template <class Copy>
void gather_sequences_out(
    const std::vector<Tensor>& fields, const Tensor& start, const Tensor& env, int64_t seq_len, const std::vector<Tensor>& out) {
  const CheckedSequences checked = check_sequences(fields, start, env, seq_len);
  const SequenceRows& rows = checked.rows;
  check_targets(fields, rows, out);
  copy_sequences<Copy>(fields, rows, out);
}

}  // namespace fastrl
